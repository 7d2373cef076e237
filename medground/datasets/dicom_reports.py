"""DICOM structured reports with measurement groups (TID 1500): the regions of each group as a phrase.

render  Reports of `render --output-format dicom-sr`: the same words, boxes and ids come back.
others  The words are those of the comment, or else of the finding, or else the tracking identifier.

A region is an SCOORD item of a group: its bounding box becomes the box. Points, lines, regions in 3D and on
other frames than the first are left out and counted. Groups with one phrase_id, or else one tracking UID, are
one phrase. A group of `render` without a region has no box; in reports of others its boxes are unknown.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medground.datasets import dicom_objects
from medground.datasets.dicom_objects import OURS, Images, code_of, need, text
from medground.datasets.sources import TakeBad, refuse
from medground.errors import BadRecord
from medground.records import Box, Phrase

KINDS = {  # SOP classes that TID 1500 is published in
    "1.2.840.10008.5.1.4.1.1.88.22": "Enhanced SR",
    "1.2.840.10008.5.1.4.1.1.88.33": "Comprehensive SR",
    "1.2.840.10008.5.1.4.1.1.88.34": "Comprehensive 3D SR",
}
GROUP, COMMENT, FINDING = ("125007", "DCM"), ("121106", "DCM"), ("121071", "DCM")
TRACKING, TRACKING_UID = ("112039", "DCM"), ("112040", "DCM")
ALGORITHM, PARAMETER = ("111001", "DCM"), ("111002", "DCM")
CERTAINTY, SCORE, EXISTENCE = ("111012", "DCM"), ("score", "99MEDGROUND"), ("existence", "99MEDGROUND")
SAID = {"52101004": "present", "272519000": "absent", "373068000": "uncertain"}
UNSAID = {"404684003"}  # "Clinical finding": names no finding


def read(source: Path, take: TakeBad = refuse, images: Images | None = None) -> Iterator[Phrase]:
    """Yield the phrases of each report, in the order of the files."""
    dirt: Counter[str] = Counter()
    what = "structured report"
    yield from dicom_objects.read(
        source, KINDS, what, lambda data, file: _phrases(data, images, dirt), take, dirt
    )


@dataclass(slots=True)
class _Group:
    """The content of one measurement group; `uids` are those of the images of all its graphics."""

    named: dict[tuple[str, str], list[Any]] = field(default_factory=dict)
    boxes: list[Box] = field(default_factory=list)
    uids: set[str] = field(default_factory=set)

    def words(self, name: tuple[str, str]) -> str:
        """Return the text, or the meaning of the code, of the first item with this name."""
        for item in self.named.get(name, ()):
            if item.get("ValueType") == "CODE":
                value, _, meaning = code_of(item.get("ConceptCodeSequence"))
                return "" if value in UNSAID else meaning
            return text(item.get("TextValue") or item.get("UID"), "TextValue")
        return ""

    def number(self, name: tuple[str, str]) -> float | None:
        """Return the value of the first measurement with this name."""
        for item in self.named.get(name, ()):
            values = item.get("MeasuredValueSequence")
            return float(need(values[0], "NumericValue")) if values else None
        return None

    def parameters(self) -> dict[str, str]:
        """Return the parameters that `render` writes; empty for a group of others."""
        if self.words(ALGORITHM) != OURS:
            return {}
        said = [str(item.get("TextValue") or "") for item in self.named.get(PARAMETER, ())]
        return {key: value for key, _, value in (each.partition("=") for each in said)}


def _phrases(data: Any, images: Images | None, dirt: Counter[str]) -> list[Phrase]:
    need(data, "ContentSequence")
    groups = [_group(item, dirt) for item in _items(data) if _name(item) == GROUP]
    found: dict[str, Phrase] = {}
    for number, group in enumerate(groups, start=1):
        each = _phrase(group, number, data, images, dirt)
        known = found.get(each.phrase_id)
        found[each.phrase_id] = each if known is None else dicom_objects.joined(known, each)
    if not found:
        dirt["structured reports without a measurement group (TID 1500)"] += 1
    return list(found.values())


def _items(item: Any) -> Iterator[Any]:
    """Yield each content item below an item, first the nearest to the start of the report."""
    for each in item.get("ContentSequence") or ():
        yield each
        yield from _items(each)


def _name(item: Any) -> tuple[str, str]:
    return code_of(item.get("ConceptNameCodeSequence"))[:2]


def _group(container: Any, dirt: Counter[str]) -> _Group:
    group = _Group()
    for item in _items(container):
        group.named.setdefault(_name(item), []).append(item)
        if item.get("ValueType") == "SCOORD":
            source = _pictured(item)
            group.uids.add(str(need(source, "ReferencedSOPInstanceUID")))
            group.boxes += _region(item, source, dirt)
        dirt["regions in 3D, left out"] += item.get("ValueType") == "SCOORD3D"
    return group


def _pictured(item: Any) -> Any:
    """Return the reference of a graphic to its image."""
    for each in item.get("ContentSequence") or ():
        if each.get("ValueType") == "IMAGE":
            return need(each, "ReferencedSOPSequence")[0]
    raise BadRecord("a region without its image", "ReferencedSOPSequence")


def _region(item: Any, source: Any, dirt: Counter[str]) -> list[Box]:
    """Return the bounding box of a region on the first frame of its image, none for points and lines."""
    frames = source.get("ReferencedFrameNumber")
    if frames is not None and int(frames if isinstance(frames, int | str) else frames[0]) != 1:
        dirt["regions on other frames than the first, left out"] += 1
        return []
    box = _bounds(str(need(item, "GraphicType")), need(item, "GraphicData"))
    dirt["points and lines, which are no regions, left out"] += box is None
    return [box] if box else []


def _bounds(kind: str, data: Any) -> Box | None:
    """Return the bounding box of a graphic (PS3.3 C.18.6.1.2), None for points and lines."""
    numbers = [float(each) for each in data] if hasattr(data, "__len__") else []
    if len(numbers) < 2 or len(numbers) % 2 or not all(map(math.isfinite, numbers)):
        raise BadRecord("expected pairs of finite numbers", "GraphicData")
    across, down = numbers[::2], numbers[1::2]
    if kind == "CIRCLE" and len(across) == 2:
        radius = math.dist(numbers[:2], numbers[2:])
        return across[0] - radius, down[0] - radius, across[0] + radius, down[0] + radius
    if kind == "ELLIPSE" and len(across) == 4:  # the ends of the major axis, then of the minor axis
        wide, high = (math.hypot(side[1] - side[0], side[3] - side[2]) / 2 for side in (across, down))
        x, y = (across[0] + across[1]) / 2, (down[0] + down[1]) / 2
        return x - wide, y - high, x + wide, y + high
    if kind in ("CIRCLE", "ELLIPSE"):
        raise BadRecord(f"expected {2 if kind == 'CIRCLE' else 4} points", "GraphicData")
    if kind != "POLYLINE" or len(set(zip(across, down, strict=True))) < 3:
        return None
    return min(across), min(down), max(across), max(down)


def _phrase(group: _Group, number: int, data: Any, images: Images | None, dirt: Counter[str]) -> Phrase:
    said = group.parameters()
    image = dicom_objects.image_of(_image(group, data), said.get("image_id"), images)
    found = [dicom_objects.inside(box, image, dirt, "GraphicData") for box in group.boxes]
    tracking = group.words(TRACKING)
    words = group.words(COMMENT) or group.words(FINDING) or tracking
    if not words:
        raise BadRecord("a measurement group without a comment, a finding and a tracking identifier")
    return Phrase(
        image_id=image.image_id,
        phrase_id=said.get("phrase_id") or group.words(TRACKING_UID) or f"{image.image_id}|{number}",
        subject_id=text(data.get("PatientID"), "PatientID") or None,
        path=image.path,
        width=image.width,
        height=image.height,
        text=words,
        boxes=found if found or said else None,
        extra=_extra(group, said, "" if said else tracking),
    )


def _extra(group: _Group, said: dict[str, str], tracking: str) -> dict[str, Any]:
    """Return what the group states next to the boxes: keys of a Grounding, without the scores."""
    certainty, existence = group.number(CERTAINTY), group.named.get(EXISTENCE)
    found = {"model": said.get("model"), "tracking": tracking}
    if existence:
        found["existence"] = SAID.get(code_of(existence[0].get("ConceptCodeSequence"))[0])
    more = {} if certainty is None else {"present": round(certainty / 100, 6)}
    return {key: value for key, value in found.items() if value} | more


def _image(group: _Group, data: Any) -> str:
    """Return the UID of the only image that the group is about, or else the whole report."""
    uids = group.uids or {
        str(need(each, "ReferencedSOPInstanceUID"))
        for study in data.get("CurrentRequestedProcedureEvidenceSequence") or ()
        for series in study.get("ReferencedSeriesSequence") or ()
        for each in series.get("ReferencedSOPSequence") or ()
    }
    if len(uids) != 1:
        problem = "regions on several images" if uids else "refers to no image"
        raise BadRecord(f"a measurement group: {problem}", "ReferencedSOPSequence")
    return uids.pop()
