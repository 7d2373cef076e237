"""DICOM segmentations: the segments of each image as phrases with boxes, or as masks.

render  Segmentations of `render --output-format dicom-seg`: the same words, ids and exact boxes come back.
others  The words are the label of the segment, or else the meaning of its type. Each connected piece of the
        mask becomes a box.

Binary, fractional and label map segmentations are read. A pixel of a fractional one is in the mask from half
of the highest possible value on. Letters: H x W pixels of a frame.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medground import limits, run_lengths
from medground.datasets import dicom_objects
from medground.datasets.dicom_objects import OURS, PARAMETERS, Images, Referenced, code_of, need, text
from medground.datasets.sources import File, TakeBad, refuse
from medground.errors import BadRecord
from medground.records import Box, Mask, Phrase

LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
KINDS = {"1.2.840.10008.5.1.4.1.1.66.4": "Segmentation", LABEL_MAP: "Label Map Segmentation"}
WHAT = "segmentation"
NUMBER = r"(-?\d+(?:\.\d+)?)"
EXACT = re.compile(rf"box=\({NUMBER}, {NUMBER}, {NUMBER}, {NUMBER}\) score=\S+ present=(\S+) text=(.*)", re.S)
Pixels = run_lengths.Mask


@dataclass(frozen=True, slots=True)
class _Segment:
    """One segment: its words and ids; `box`, the exact one of `render`, and `present`."""

    number: int
    words: str
    phrase_id: str | None
    image_id: str | None
    box: Box | None = None
    extra: dict[str, Any] | None = None


def read(source: Path, take: TakeBad = refuse, images: Images | None = None) -> Iterator[Phrase]:
    """Yield a phrase for each segment of each image; segments with one phrase_id are one phrase."""
    dirt: Counter[str] = Counter()

    def make(data: Any, file: File) -> list[Phrase]:
        found: dict[tuple[str, str], Phrase] = {}
        for segment, image, mask in _masks(data, images, dirt):
            each = _phrase(segment, image, mask, data, dirt)
            key = each.image_id, each.phrase_id
            known = found.get(key)
            found[key] = each if known is None else dicom_objects.joined(known, each)
        return list(found.values())

    yield from dicom_objects.read(source, KINDS, WHAT, make, take, dirt)


def read_masks(source: Path, take: TakeBad = refuse, images: Images | None = None) -> Iterator[Mask]:
    """Yield the mask of each image and words; segments with the same words are united."""
    dirt: Counter[str] = Counter()

    def make(data: Any, file: File) -> list[Mask]:
        found: dict[tuple[str, str], tuple[Referenced, Pixels]] = {}
        for segment, image, mask in _masks(data, images, dirt):
            key = image.image_id, segment.words
            found[key] = image, (found[key][1] | mask if key in found else mask)
        return [_mask(image, words, mask, data) for (_, words), (image, mask) in found.items()]

    yield from dicom_objects.read(source, KINDS, WHAT, make, take, dirt)


def _mask(image: Referenced, words: str, mask: Pixels, data: Any) -> Mask:
    height, width = mask.shape
    return Mask(
        image_id=image.image_id,
        subject_id=_subject(data),
        path=image.path,
        width=width,
        height=height,
        category=words,
        counts=run_lengths.packed(mask),
    )


def _phrase(segment: _Segment, image: Referenced, mask: Pixels, data: Any, dirt: Counter[str]) -> Phrase:
    found = [segment.box] if segment.box else run_lengths.pieces(mask)
    height, width = mask.shape
    return Phrase(
        image_id=image.image_id,
        phrase_id=segment.phrase_id or f"{image.image_id}|{segment.number}",
        subject_id=_subject(data),
        path=image.path,
        width=width,
        height=height,
        text=segment.words,
        boxes=[dicom_objects.inside(box, image, dirt, "SegmentDescription") for box in found],
        extra=segment.extra or {},
    )


def _subject(data: Any) -> str | None:
    return text(data.get("PatientID"), "PatientID") or None


def _masks(
    data: Any, images: Images | None, dirt: Counter[str]
) -> Iterator[tuple[_Segment, Referenced, Pixels]]:
    """Yield each segment of each image with its mask; frames of one segment on one image are united."""
    segments = {each.number: each for each in map(_segment, need(data, "SegmentSequence"))}
    found: dict[tuple[int, str], Pixels] = {}
    for frame, pixels in enumerate(_frames(data)):
        uid = _source(data, frame)
        for number, mask in _parts(data, frame, pixels):
            key = number, uid
            found[key] = found[key] | mask if key in found else mask
            if len(found) * mask.size > limits.MAX_UNPACKED:
                raise BadRecord(limits.TOO_LONG, "PixelData")
    for (number, uid), mask in found.items():
        if number not in segments:
            raise BadRecord("a segment that SegmentSequence does not have", "ReferencedSegmentNumber")
        if not mask.any():
            dirt["empty segments, left out"] += 1
            continue
        segment = segments[number]
        image = dicom_objects.image_of(uid, segment.image_id, images)
        if image.width and (image.height, image.width) != mask.shape:
            raise BadRecord("another size than that of its image", "Rows")
        yield segment, replace(image, width=mask.shape[1], height=mask.shape[0]), mask


def _segment(item: Any) -> _Segment:
    number = int(need(item, "SegmentNumber"))
    said, exact = _parameters(item), EXACT.fullmatch(str(item.get("SegmentDescription") or ""))
    kind = code_of(item.get("SegmentedPropertyTypeCodeSequence"))[2]
    words = text(item.get("SegmentLabel"), "SegmentLabel") or kind
    own = {key: value for key, value in (("model", said.get("model")),) if value}
    if not said or not exact:
        uid = str(item.get("TrackingUID") or "") or None
        if not words:
            raise BadRecord("a segment without a label and a type", "SegmentLabel")
        return _Segment(number, words, uid, None)
    *corners, present, phrase = exact.groups()
    x1, y1, x2, y2 = map(float, corners)
    more = own | {"present": float(present)}
    words = text(phrase, "SegmentDescription") or words
    return _Segment(number, words, said.get("phrase_id"), said.get("image_id"), (x1, y1, x2, y2), more)


def _parameters(item: Any) -> dict[str, str]:
    """Return the parameters that `render` writes; empty for a segment of others."""
    algorithm = item.get("SegmentationAlgorithmIdentificationSequence")
    if not algorithm or algorithm[0].get("AlgorithmName") != OURS:
        return {}
    parts = re.split(rf",(?=(?:{'|'.join(PARAMETERS)})=)", str(algorithm[0].get("AlgorithmParameters") or ""))
    return {key: value for key, _, value in (each.partition("=") for each in parts)}


def _frames(data: Any) -> Iterator[Any]:
    """Yield the (H, W) stored values of each frame."""
    from pydicom.pixels.utils import pixel_array

    width, height = int(need(data, "Columns")), int(need(data, "Rows"))
    if min(width, height) < 1 or width * height > limits.MAX_PIXELS:
        raise BadRecord("an image without pixels, or with too many", "Rows")
    need(data, "PixelData")
    high = data.get("HighBit")
    if high is not None and int(high) + 1 != int(need(data, "BitsStored")):
        raise BadRecord("expected BitsStored - 1", "HighBit")  # pydicom ignores it
    for frame in range(int(data.get("NumberOfFrames") or 1)):
        yield pixel_array(data, index=frame)


def _parts(data: Any, frame: int, pixels: Any) -> Iterator[tuple[int, Pixels]]:
    """Yield the number and the (H, W) mask of each segment of a frame."""
    if str(data.SOPClassUID) == LABEL_MAP:
        yield from ((int(each), pixels == each) for each in np.unique(pixels) if each)
        return
    number = int(need(_of_frame(data, frame, "SegmentIdentificationSequence")[0], "ReferencedSegmentNumber"))
    kind = str(need(data, "SegmentationType"))
    if kind not in ("BINARY", "FRACTIONAL"):
        raise BadRecord("expected BINARY or FRACTIONAL", "SegmentationType")
    most = int(need(data, "MaximumFractionalValue")) if kind == "FRACTIONAL" else 1
    yield number, pixels >= max(most, 1) / 2


def _of_frame(data: Any, frame: int, keyword: str) -> Any:
    """Return a functional group of a frame, of its own or shared by all; raise BadRecord if it is missing."""
    own = data.get("PerFrameFunctionalGroupsSequence") or ()
    shared = data.get("SharedFunctionalGroupsSequence") or ()
    for each in (*own[frame : frame + 1], *shared):
        if each.get(keyword):
            return each.get(keyword)
    raise BadRecord("missing", "PerFrameFunctionalGroupsSequence", frame, keyword)


def _source(data: Any, frame: int) -> str:
    """Return the UID of the image that a frame is about: its own, or the only one of the whole object."""
    try:
        derived = _of_frame(data, frame, "DerivationImageSequence")
        uids = {
            str(need(image, "ReferencedSOPInstanceUID"))
            for each in derived
            for image in each.get("SourceImageSequence") or ()
        }
    except BadRecord:
        uids = set()
    uids = uids or {
        str(need(image, "ReferencedSOPInstanceUID"))
        for series in data.get("ReferencedSeriesSequence") or ()
        for image in series.get("ReferencedInstanceSequence") or ()
    }
    if len(uids) != 1:
        problem = "several images" if uids else "no image"
        raise BadRecord(f"a frame of {problem}", "DerivationImageSequence")
    return uids.pop()
