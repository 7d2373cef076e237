"""Groundings as DICOM structured reports: TID 1500 in a Comprehensive SR, one file per image, by highdicom.

Each box is a closed polyline over the source image. Its tracking identifier is the phrase. It has the
algorithm (medground, its version, the model's hash) and its score. A phrase without a box is a group without
a region. Both have the certainty of the finding: `present`, in percent, and `existence`, if the record has
it. A phrase that is too long for its identifier is also in a comment. Reports are complete, not verified.

Coordinates need no conversion: the origin of DICOM's (column, row) is the top left corner of the top left
pixel, as in our boxes. A report has the time of its creation and its own identifiers, as DICOM requires
(PS3.3 C.17.2, C.12.1). Only these differ between two runs.
"""

import itertools
import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import medground
from medground import dicom, output_files
from medground.errors import MedgroundError
from medground.grounding import calibration, names
from medground.records import Box, Grounding, Phrase, ScoredBox

if TYPE_CHECKING:
    from pydicom import Dataset

log = logging.getLogger(__name__)
Answered = tuple[Phrase, Grounding]
NAME = "medground"
SCHEME = "99MEDGROUND"  # private codes, named as DICOM names private schemes
SERIES_NUMBER = 1
LONGEST = 64  # characters of a tracking identifier in viewers; longer text is also in a comment
# DICOM's codes (PS3.16 CID 240) for the existence of a finding in a report.
SAID = {
    "present": ("52101004", "Present"),
    "absent": ("272519000", "Absent"),
    "uncertain": ("373068000", "Undetermined"),
}
# Type 2 in DICOM: required, but may be empty. Anonymization empties them.
MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


def refuse_other(path: Path) -> None:
    """Raise MedgroundError unless the file is DICOM and highdicom is installed."""
    if not dicom.is_dicom(path):
        raise MedgroundError(f"{path}: not a DICOM file; --output-format dicom-sr is for DICOM images")
    try:
        import highdicom  # noqa: F401
    except ModuleNotFoundError:
        raise MedgroundError(
            "--output-format dicom-sr needs highdicom: pip install medground[dicom]"
        ) from None


def write(answers: Iterable[Answered], folder: Path, out: Path) -> None:
    """Write OUT/<image_id>.dcm (`names.of_image`) for each image; a file appears only when it is complete.

    Raises MedgroundError for an image that is not a DICOM file or whose phrases are not consecutive.
    """
    out.mkdir(parents=True, exist_ok=True)
    written: set[str] = set()
    for (path, image_id), group in itertools.groupby(answers, key=_image):
        refuse_other(folder / path)
        if image_id in written:
            raise MedgroundError(f"image_id {image_id}: for dicom-sr phrases must be on consecutive lines")
        written.add(image_id)
        report = build(folder / path, list(group))
        target = str(out / f"{names.of_image(image_id)}.dcm")
        with output_files.create(target) as stream, quiet(folder / path):
            report.save_as(stream, enforce_file_format=True)


def _image(answer: Answered) -> tuple[str, str]:
    return answer[0].path, answer[0].image_id


def build(path: Path, answers: Sequence[Answered]) -> "Dataset":
    """Return the structured report about one DICOM image.

    Raises MedgroundError if the image cannot be referenced.
    """
    import highdicom

    with quiet(path):
        source = _source(path)
        found = [_on_source(phrase, each, source) for phrase, each in answers]
        report = highdicom.sr.ComprehensiveSR(
            evidence=[source],
            content=_content([each for one in found for each in _groups(one, source)], found),
            series_instance_uid=highdicom.UID(),
            series_number=SERIES_NUMBER,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer=NAME,
            is_complete=True,
        )
        report.SpecificCharacterSet = "ISO_IR 192"  # UTF-8: phrases are in any language
        return report


@contextmanager
def quiet(path: Path) -> Iterator[None]:
    """Show no warnings, and turn errors about header values into a MedgroundError: both quote values."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            log.debug("traceback:", exc_info=True)
            problem = "a structured report cannot take a value of its header"
            raise MedgroundError(f"{path}: {problem}") from error


def _source(path: Path) -> "Dataset":
    """Return the image's header, with elements removed by anonymization as empty ones."""
    import pydicom
    from pydicom import DataElement

    source = pydicom.dcmread(path, stop_before_pixels=True)
    if missing := [name for name in NEEDED if not source.get(name)]:
        raise MedgroundError(f"{path}: has no {missing[0]}, by which a structured report refers to it")
    for name in MAY_BE_EMPTY:
        if not _is_valid(source, name):
            log.warning("%s: %s is malformed; it is empty in the structured report", path, name)
            source[name] = DataElement(name, source[name].VR, None)
        elif name not in source:
            setattr(source, name, None)
    return source


def _is_valid(source: "Dataset", name: str) -> bool:
    """Return whether the element is missing, empty, or a single value that its type allows."""
    from pydicom import valuerep

    if not source.get(name):
        return True
    value, kind = source[name].value, source[name].VR
    checks = {"DA": valuerep.DA, "TM": valuerep.TM, "PN": str}
    try:
        checks.get(kind, str)(value)
    except (ValueError, TypeError):
        return False
    return isinstance(value, str | valuerep.PersonName | valuerep.DA | valuerep.TM)


def _on_source(phrase: Phrase, found: Grounding, source: "Dataset") -> Grounding:
    """Return the grounding with boxes in pixels of the source.

    The source may be a scaled copy of the phrase's image.
    """
    size = source.get("Columns"), source.get("Rows")
    if not (phrase.width and phrase.height and all(size)) or size == (phrase.width, phrase.height):
        return found
    across, down = size[0] / phrase.width, size[1] / phrase.height
    boxes = [replace(each, box=_times(each.box, across, down)) for each in found.boxes]
    return replace(found, boxes=boxes)


def _times(box: Box, across: float, down: float) -> Box:
    x1, y1, x2, y2 = box
    return (x1 * across, y1 * down, x2 * across, y2 * down)


def _content(groups: Sequence[Any], found: Sequence[Grounding]) -> Any:
    """Return the measurement report: the observer, the image, and the groups."""
    from highdicom import UID, sr
    from pydicom.sr.codedict import codes

    device = sr.DeviceObserverIdentifyingAttributes(uid=UID(), name=NAME, model_name=_model(found))
    observer = sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    return sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=sr.CodedConcept("399208008", "SCT", "Plain chest X-ray"),
        imaging_measurements=groups,
    )


def _model(found: Sequence[Grounding]) -> str:
    return found[0].model if found else ""


def _groups(found: Grounding, source: "Dataset") -> list[Any]:
    """Return a group for each box of the phrase, or one without a region."""
    from highdicom import sr
    from pydicom.sr.codedict import codes

    finding = sr.CodedConcept("404684003", "SCT", "Clinical finding")
    certainty = _measurement("111012", "DCM", "Certainty of Finding", 100 * found.present, codes.UCUM.Percent)
    same = {"finding_type": finding, "algorithm_id": _algorithm(found)}
    same |= {"qualitative_evaluations": _existence(found)}
    if not found.boxes:
        own = same | {"tracking_identifier": _tracking(found), "measurements": [certainty]}
        return [_commented(sr.MeasurementsAndQualitativeEvaluations(**own), found)]
    groups = [
        sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            **same,
            tracking_identifier=_tracking(found),
            referenced_region=_region(each, source),
            measurements=[
                certainty,
                _measurement("score", SCHEME, "Score of box", each.score, codes.UCUM.NoUnits),
            ],
        )
        for each in found.boxes
    ]
    return [_commented(group, found) for group in groups]


def _existence(found: Grounding) -> list[Any] | None:
    """Return the existence of the finding in the report, None if it is not stated."""
    from highdicom import sr

    said = SAID.get(str(found.extra.get("existence")))
    if said is None:
        return None
    name = sr.CodedConcept("existence", SCHEME, "Existence in the report")
    return [sr.QualitativeEvaluation(name, sr.CodedConcept(said[0], "SCT", said[1]))]


def _commented(group: Any, found: Grounding) -> Any:
    """Return the group, with the full phrase in a comment if its tracking identifier is cut."""
    from highdicom import sr
    from pydicom.sr.codedict import codes

    if len(found.text) > LONGEST:
        contains = sr.RelationshipTypeValues.CONTAINS
        comment = sr.TextContentItem(codes.DCM.Comment, found.text, relationship_type=contains)
        group[0].ContentSequence.append(comment)
    return group


def _tracking(found: Grounding) -> Any:
    from highdicom import UID, sr

    return sr.TrackingIdentifier(uid=UID(), identifier=found.text[:LONGEST] or found.phrase_id[:LONGEST])


def _algorithm(found: Grounding) -> Any:
    from highdicom import sr

    said = [f"model={found.model}", f"phrase_id={found.phrase_id}"]
    said += [f"calibrated={calibration.described(found.extra)}"] if "calibrated" in found.extra else []
    said += [f"coverage={found.extra['coverage']}"] if "coverage" in found.extra else []
    return sr.AlgorithmIdentification(name=NAME, version=medground.__version__, parameters=said)


def _measurement(value: str, scheme: str, meaning: str, number: float, unit: Any) -> Any:
    from highdicom import sr

    return sr.Measurement(name=sr.CodedConcept(value, scheme, meaning), value=round(number, 4), unit=unit)


def _region(found: ScoredBox, source: "Dataset") -> Any:
    """Return the box as a closed polyline over the image, on the first of several frames."""
    from highdicom import sr

    x1, y1, x2, y2 = found.box
    frames = [1] if int(source.get("NumberOfFrames") or 1) > 1 else None
    image = sr.SourceImageForRegion(source.SOPClassUID, source.SOPInstanceUID, frames)
    corners = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)])
    return sr.ImageRegion(sr.GraphicTypeValues.POLYLINE, corners, image)
