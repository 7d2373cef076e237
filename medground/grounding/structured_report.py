"""Groundings as DICOM structured reports: TID 1500 in a Comprehensive SR, one file per image, by highdicom.

Each box is a closed polyline over the source image. Its tracking identifier is the phrase. It has the
algorithm (medground, its version, the model's hash) and its score. A phrase without a box is a group without
a region. Both have the certainty of the finding: `present`, in percent, and `existence`, if the record has
it. A phrase that is too long for its identifier is also in a comment. Reports are complete, not verified.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import medground
from medground.grounding import dicom_source
from medground.grounding.dicom_source import NAME, Answered
from medground.records import Grounding, ScoredBox

if TYPE_CHECKING:
    from pydicom import Dataset

SCHEME = "99MEDGROUND"  # private codes, named as DICOM names private schemes
# DICOM's codes (PS3.16 CID 240) for the existence of a finding in a report.
SAID = {
    "present": ("52101004", "Present"),
    "absent": ("272519000", "Absent"),
    "uncertain": ("373068000", "Undetermined"),
}


def write(answers: Iterable[Answered], folder: Path, out: Path) -> None:
    """Write a structured report for each image; see `dicom_source.write_each`."""
    dicom_source.write_each(answers, folder, out, build)


def build(path: Path, answers: Sequence[Answered]) -> "Dataset":
    """Return the structured report about one DICOM image.

    Raises MedgroundError if the image cannot be referenced.
    """
    import highdicom

    with dicom_source.quiet(path):
        source = dicom_source.read(path)
        found = [dicom_source.on_source(phrase, each, source) for phrase, each in answers]
        report = highdicom.sr.ComprehensiveSR(
            evidence=[source],
            content=_content([each for one in found for each in _groups(one, source)], found),
            series_instance_uid=highdicom.UID(),
            series_number=dicom_source.SERIES_NUMBER,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer=NAME,
            is_complete=True,
        )
        return dicom_source.named(report)


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
    """Return the group, with the phrase in a comment if its tracking identifier differs from it."""
    from highdicom import sr
    from pydicom.sr.codedict import codes

    if found.text and found.text != dicom_source.label(found):
        contains = sr.RelationshipTypeValues.CONTAINS
        comment = sr.TextContentItem(codes.DCM.Comment, found.text, relationship_type=contains)
        group[0].ContentSequence.append(comment)
    return group


def _tracking(found: Grounding) -> Any:
    from highdicom import UID, sr

    return sr.TrackingIdentifier(uid=UID(), identifier=dicom_source.label(found))


def _algorithm(found: Grounding) -> Any:
    from highdicom import sr

    said = [f"{key}={value}" for key, value in dicom_source.parameters(found).items()]
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
