"""Images in, named regions out: what every detector has in common.

Letters: B films, S side of the detector's square. A detector sees letterboxed squares; the records have
pixels of the original film, upright.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from medground import boxes, images
from medground.anatomy.image_set import in_threads
from medground.errors import MedgroundError
from medground.images import Pixels
from medground.records import Anatomy, Box, Image, Region, is_frontal, known_keys

log = logging.getLogger(__name__)

# What any frontal chest film shows; a film on which a detector hardly finds it is none.
CORE = ("right lung", "left lung", "cardiac silhouette", "spine")
NO_CHEST = "other"
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
    """The best box of each region; the three run parallel, and None names no region."""
    best: dict[str, Found] = {}
    for name, (x1, y1, x2, y2), score in zip(names, corners, scores, strict=True):
        if name and (name not in best or score > best[name].score):
            best[name] = Found(name, (x1, y1, x2, y2), score)
    return list(best.values())


class Detector(Protocol):
    """Anything that finds regions.

    `size` is the side of the squares it wants, `model` its hash, `doubt` the mean score of CORE's regions
    below which it takes a film for no chest.
    """

    size: int
    model: str
    doubt: float

    def find(self, squares: Pixels) -> list[list[Found]]:
        """(B, S, S) films in [0, 1] -> for each its regions, each name at most once, in any order."""
        ...

    def close(self) -> None:
        """Let go of what it holds: processes, above all."""
        ...


Reject = Callable[[Image, MedgroundError], None]
Ready = tuple[Pixels, boxes.Letterbox, images.Header]


def detect_regions(
    records: Iterable[Image], folder: Path, detector: Detector, reject: Reject, batch: int, min_score: float
) -> Iterator[Anatomy]:
    """Yield the anatomy of each image, in order; `batch` films are in work at a time.

    Regions that score less than `min_score` are left out. A film that cannot be read goes to `reject`. One
    that is no frontal chest film, by its record or by what the detector makes of it, gets no boxes, and its
    `view` says so.
    """
    readable = _readable(records, folder, detector.size, reject)
    for some in _batches(readable, batch):
        squares = np.stack([square for _, (square, _, _) in some])
        for (record, ready), found in zip(some, detector.find(squares), strict=True):
            yield _anatomy(record, ready, found, detector, min_score)


def _readable(
    records: Iterable[Image], folder: Path, size: int, reject: Reject
) -> Iterator[tuple[Image, Ready]]:
    def read(record: Image) -> Ready | MedgroundError:
        try:
            path = folder / record.path
            return *images.letterbox(images.load(path), size), images.describe(path)
        except MedgroundError as error:
            return error

    for record, ready in in_threads(read, records):
        if isinstance(ready, MedgroundError):
            reject(record, ready)
        else:
            yield record, ready


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


def _anatomy(
    record: Image, ready: Ready, found: Sequence[Found], detector: Detector, min_score: float
) -> Anatomy:
    _, place, header = ready
    doubt = None if is_chest(found, detector.doubt) else "probably not a frontal chest film"
    return anatomy_of(record, header, list(_regions(found, place, min_score)), detector.model, doubt)


def anatomy_of(
    record: Image, header: images.Header, regions: list[Region], model: str, doubt: str | None
) -> Anatomy:
    """The record with its regions; without any, and with NO_CHEST for its view, where there is a doubt.

    A film that the record or the file knows to be no frontal one has no regions either.
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
    """The view as the record or the file knows it, but NO_CHEST, and a warning, where there is a doubt."""
    known = record.view or header.view
    if doubt is None or not is_frontal(known):
        return known
    log.warning("%s: %s", record.path, doubt)
    return NO_CHEST


def is_chest(found: Sequence[Found], doubt: float) -> bool:
    """Whether the regions that every frontal chest film shows were found, and left lies right of right."""
    if core_score({each.name: each.score for each in found}) < doubt:
        return False
    return sides_fit({each.name: each.box for each in found})


def core_score(score_of: Mapping[str, float], known: Collection[str | None] = CORE) -> float:
    """The mean score of CORE's regions, of those that a detector knows; one that it did not find counts as 0,
    and so does everything where it knows none."""
    wanted = [name for name in CORE if name in known]
    return sum(score_of.get(name, 0.0) for name in wanted) / max(1, len(wanted))


def doubt_of(names: Sequence[str | None], whole: float) -> float:
    """The `doubt` of a detector of these regions, where one that knows all of CORE has `whole`."""
    return whole * sum(name in names for name in CORE) / len(CORE)


def sides_fit(box_of: Mapping[str, Box]) -> bool:
    """Whether the left lung lies right of the right one in the picture; True where one is missing."""
    if "right lung" not in box_of or "left lung" not in box_of:
        return True
    right, left = box_of["right lung"], box_of["left lung"]
    return right[0] + right[2] < left[0] + left[2]


def _regions(found: Sequence[Found], place: boxes.Letterbox, min_score: float) -> Iterator[Region]:
    """The regions in the film's own pixels, cut at its edge; one with nothing inside is left out."""
    for each in found:
        original = place.to_original(np.array([each.box], dtype=float))[0]
        inside = boxes.clip(tuple(original), place.width, place.height)
        if each.score >= min_score and inside is not None:
            yield Region(name=each.name, box=boxes.rounded(inside), score=round(each.score, 4))
