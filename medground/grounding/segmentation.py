"""Groundings as DICOM segmentations, one file per image, by highdicom: a binary segment for each box.

The label of a segment is its phrase. A pixel belongs to it if its center is inside the box, so a mask is
exact to half a pixel. The description of the segment has the exact box. An image without a box has no file.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import medground
from medground.grounding import dicom_source
from medground.grounding.dicom_source import NAME, Answered
from medground.records import Box, Grounding, ScoredBox

if TYPE_CHECKING:
    from pydicom import Dataset

log = logging.getLogger(__name__)
MOST_TEXT = 800  # characters of a phrase in a description, which holds 1,024


def write(answers: Iterable[Answered], folder: Path, out: Path) -> None:
    """Write a segmentation for each image with a box; a warning counts the others."""
    without = 0

    def build_or_count(path: Path, some: Sequence[Answered]) -> "Dataset | None":
        nonlocal without
        made = build(path, some)
        without += made is None
        return made

    dicom_source.write_each(answers, folder, out, build_or_count)
    if without:
        log.warning("%s: %d images without a box have no segmentation", out, without)


def build(path: Path, answers: Sequence[Answered]) -> "Dataset | None":
    """Return the segmentation of one DICOM image, None without a box.

    Raises MedgroundError if the image cannot be referenced.
    """
    from highdicom import UID, seg

    with dicom_source.quiet(path):
        source = dicom_source.read(path)
        found = list(_boxes(answers, source))
        if not found:
            return None
        masks = np.stack([_mask(each.box, int(source.Rows), int(source.Columns)) for _, each in found], -1)
        made = seg.Segmentation(
            source_images=[source],
            pixel_array=masks[None],
            segmentation_type=seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_segment(n, *each) for n, each in enumerate(found, start=1)],
            series_instance_uid=UID(),
            series_number=dicom_source.SERIES_NUMBER,
            sop_instance_uid=UID(),
            instance_number=1,
            manufacturer=NAME,
            manufacturer_model_name=found[0][0].model or NAME,
            software_versions=medground.__version__,
            device_serial_number=NAME,
            content_label="FINDINGS",
        )
        if "PatientOrientation" not in made:
            made.PatientOrientation = source.get("PatientOrientation") or None
        return dicom_source.named(made)


def _boxes(answers: Sequence[Answered], source: "Dataset") -> Iterator[tuple[Grounding, ScoredBox]]:
    """Yield each box in pixels of the source, with its grounding."""
    for phrase, given in answers:
        found = dicom_source.on_source(phrase, given, source)
        yield from ((found, each) for each in found.boxes)


def _mask(box: Box, height: int, width: int) -> NDArray[np.bool_]:
    """Return the (H, W) pixels whose centers are inside the box; the nearest one if there is none."""
    inside = np.outer(_pixels(box[1], box[3], height), _pixels(box[0], box[2], width))
    return inside.astype(bool)


def _pixels(low: float, high: float, length: int) -> NDArray[np.bool_]:
    middles = np.arange(length) + 0.5
    inside: NDArray[np.bool_] = (middles > low) & (middles < high)
    if not inside.any():
        inside[np.abs(middles - (low + high) / 2).argmin()] = True
    return inside


def _segment(number: int, found: Grounding, each: ScoredBox) -> Any:
    """Return the description of a segment: the phrase, the model, and the exact box."""
    from highdicom import UID, AlgorithmIdentificationSequence, seg, sr
    from pydicom.sr.codedict import codes

    said = seg.SegmentDescription(
        segment_number=number,
        segment_label=dicom_source.label(found),
        segmented_property_category=sr.CodedConcept("49755003", "SCT", "Morphologically Abnormal Structure"),
        segmented_property_type=sr.CodedConcept("404684003", "SCT", "Clinical finding"),
        algorithm_type=seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=NAME,
            version=medground.__version__,
            family=codes.DCM.ArtificialIntelligence,
            parameters={key: str(value) for key, value in dicom_source.parameters(found).items()},
        ),
        tracking_uid=UID(),
        tracking_id=dicom_source.label(found),
    )
    said.SegmentDescription = _description(found, each)
    return said


def _description(found: Grounding, each: ScoredBox) -> str:
    """Return the exact box (x1, y1, x2, y2 in pixels), its score, `present`, and the phrase."""
    corners = ", ".join(f"{value:.2f}" for value in each.box)
    text = " ".join(found.text[:MOST_TEXT].split())
    return f"box=({corners}) score={each.score:.4f} present={found.present:.4f} text={text}"
