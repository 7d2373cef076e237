"""Images in, named regions out: the part shared by all detectors.

Letters: B images, S side of the detector's square. Detectors take letterboxed squares; the records have
pixels of the original upright image.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from medground import boxes, images
from medground.errors import MedgroundError
from medground.images import Pixels
from medground.parallel import in_threads
from medground.record_json import known_keys
from medground.records import Anatomy, Box, Image, Region, is_frontal

log = logging.getLogger(__name__)

# Regions in every frontal chest image; without them an image is taken for something else.
CORE = ("right lung", "left lung", "cardiac silhouette", "spine")
NO_CHEST = "other"
NOT_FRONTAL = "probably not a single upright frontal chest X-ray"
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Found:
    """A region on a square: `box` in the square's pixels, `score` in [0, 1]."""

    name: str
    box: Box
    score: float


def best_of_each(
    names: Sequence[str | None], corners: Sequence[Sequence[float]], scores: Sequence[float]
) -> list[Found]:
    """Return the best box of each region; the three arguments are parallel, and a name None is skipped."""
    best: dict[str, Found] = {}
    for name, (x1, y1, x2, y2), score in zip(names, corners, scores, strict=True):
        if name and (name not in best or score > best[name].score):
            best[name] = Found(name, (x1, y1, x2, y2), score)
    return list(best.values())


class Detector(Protocol):
    """A detector of regions.

    `size` is the side of its input squares, `model` its hash. If the mean score of the CORE regions is below
    `doubt`, the image is taken for no chest.
    """

    size: int
    model: str
    doubt: float

    def find(self, squares: Pixels) -> list[list[Found]]:
        """Return (B, S, S) images in [0, 1] -> the regions of each image, each name at most once, in any
        order."""
        ...

    def close(self) -> None:
        """Release its resources, such as processes."""
        ...


class ViewCheck(Protocol):
    """Check whether images are single upright frontal chest X-rays: `models.view_check`."""

    def square(self, image: images.Shown) -> Any:
        """Return an image of `images.load_shown` as input of the check."""
        ...

    def are_frontal(self, squares: Sequence[Any]) -> list[bool]:
        """Return this for each of the inputs."""
        ...


Reject = Callable[[Image, MedgroundError], None]


@dataclass(frozen=True, slots=True)
class Ready:
    """An image as input of the detector, and of the view check if there is one."""

    square: Pixels
    place: boxes.Letterbox
    header: images.Header
    view_square: Any


def detect_regions(
    records: Iterable[Image],
    folder: Path,
    detector: Detector,
    reject: Reject,
    batch: int,
    min_score: float,
    check: ViewCheck | None = None,
) -> Iterator[Anatomy]:
    """Yield the anatomy of each image, in order; in batches of `batch` images.

    Regions with a score below `min_score` are left out. An unreadable image goes to `reject`. An image that
    is not a frontal chest X-ray gets no boxes and a different `view`: by its record, by `check`, or by the
    detector. Without `check`, only the record counts.
    """
    readable = _readable(records, folder, detector.size, reject, check)
    for some in batches(readable, batch):
        found = detector.find(np.stack([ready.square for _, ready in some]))
        frontal = check.are_frontal([ready.view_square for _, ready in some]) if check else []
        for number, (record, ready) in enumerate(some):
            sure = check is None or (frontal[number] and is_chest(found[number], detector.doubt))
            regions = list(_regions(found[number], ready.place, min_score))
            yield anatomy_of(record, ready.header, regions, detector.model, None if sure else NOT_FRONTAL)


def _readable(
    records: Iterable[Image], folder: Path, size: int, reject: Reject, check: ViewCheck | None
) -> Iterator[tuple[Image, Ready]]:
    def read(record: Image) -> Ready | MedgroundError:
        try:
            path = folder / record.path
            image = images.load_shown(path)
            place = images.letterbox(image, size)
            return Ready(*place, images.describe(path), check.square(image) if check else None)
        except MedgroundError as error:
            return error

    for record, ready in in_threads(read, records):
        if isinstance(ready, MedgroundError):
            reject(record, ready)
        else:
            yield record, ready


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in lists of `size`; the last one may be shorter."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


def anatomy_of(
    record: Image, header: images.Header, regions: list[Region], model: str, doubt: str | None
) -> Anatomy:
    """Return the record with its regions; without regions and with view NO_CHEST for a doubtful image.

    An image that is not frontal by its record or file has no regions either.
    """
    extra = {name: each for name, each in record.extra.items() if name not in known_keys(Anatomy)}
    if header.spacing:
        extra["pixel_spacing"] = header.spacing
    anatomy = Anatomy(
        image_id=record.image_id,
        study_id=record.study_id,
        subject_id=record.subject_id,
        path=record.path,
        width=header.width,
        height=header.height,
        view=_view(record, header, doubt),
        regions=regions,
        extra={**extra, "model": model},
    )
    return anatomy if anatomy.is_frontal else replace(anatomy, regions=[])


def _view(record: Image, header: images.Header, doubt: str | None) -> str | None:
    """Return the view of the record or the file; NO_CHEST and a warning for a doubtful image."""
    known = record.view or header.view
    if doubt is None or not is_frontal(known):
        return known
    log.warning("%s: %s", record.path, doubt)
    return NO_CHEST


def is_chest(found: Sequence[Found], doubt: float) -> bool:
    """Return whether the CORE regions were found, with left to the right of right."""
    if core_score({each.name: each.score for each in found}) < doubt:
        return False
    return sides_fit({each.name: each.box for each in found})


def core_score(score_of: Mapping[str, float], known: Collection[str | None] = CORE) -> float:
    """Return the mean score of the CORE regions among the detector's classes; a missing region counts as 0.

    The result is 0 without any such class.

    """
    wanted = [name for name in CORE if name in known]
    return sum(score_of.get(name, 0.0) for name in wanted) / max(1, len(wanted))


def doubt_of(names: Sequence[str | None], whole: float) -> float:
    """Return the `doubt` of a detector of these regions, if `whole` is that of a detector of all CORE
    regions."""
    return whole * sum(name in names for name in CORE) / len(CORE)


def sides_fit(box_of: Mapping[str, Box]) -> bool:
    """Return whether the left lung lies to the right of the right lung in the image; True if one is
    missing."""
    if "right lung" not in box_of or "left lung" not in box_of:
        return True
    right, left = box_of["right lung"], box_of["left lung"]
    return right[0] + right[2] < left[0] + left[2]


def _regions(found: Sequence[Found], place: boxes.Letterbox, min_score: float) -> Iterator[Region]:
    """Yield the regions in the image's own pixels, clipped to the image; regions entirely outside are left
    out."""
    for each in found:
        original = place.to_original(np.array([each.box], dtype=float))[0]
        inside = boxes.clip(tuple(original), place.width, place.height)
        if each.score >= min_score and inside is not None:
            yield Region(name=each.name, box=boxes.rounded(inside), score=round(each.score, 4))
