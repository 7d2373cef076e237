"""Which phrases to show, and their pictures as text that a page can hold."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medground.evaluation import metrics
from medground.evaluation.cases import Case
from medground.figures import pages

if TYPE_CHECKING:
    from PIL.Image import Image

LONGEST = 512  # long side of a picture on a page, in pixels
QUALITY = 80
EACH = 3  # best, median and worst phrases shown
MOST_DIFFERENT = 10


@dataclass(frozen=True, slots=True)
class Picture:
    """One image with boxes: `source` is a data URI; `title` names the model where there are several."""

    source: str
    title: str
    note: str


@dataclass(frozen=True, slots=True)
class Exhibit:
    """One phrase with a picture for each model."""

    words: str
    pictures: Sequence[Picture]


@dataclass(frozen=True, slots=True)
class Gallery:
    """Exhibits under one heading."""

    title: str
    note: str
    exhibits: Sequence[Exhibit]


Galleries = Callable[[Path], list[Gallery]]  # from the folder where the paths of images start


def no_galleries(folder: Path) -> list[Gallery]:
    """Return []: there is nothing to show."""
    return []


def galleries(
    own: Sequence[Case], other: Sequence[Case] | None, first_only_: bool, folder: Path
) -> list[Gallery]:
    """Return the best, median and worst phrases; before them those where two models differ most."""
    if not own:
        return []
    models = {"model": own} | ({} if other is None else {"other": other})
    if first_only_:
        models = {name: [first_only(case) for case in cases] for name, cases in models.items()}
    shown, values = [], overlaps(models["model"])
    if other is not None:
        apart = [a - b for a, b in zip(values, overlaps(models["other"]), strict=True)]
        order = sorted(range(len(apart)), key=lambda place: -abs(apart[place]))[:MOST_DIFFERENT]
        shown.append(gallery("Where the two differ most", "", order, models, folder))
    note = "by IoU of the areas that predicted and true boxes cover"
    return shown + [
        gallery(f"{name} phrases", note, places, models, folder) for name, places in spread(values, EACH)
    ]


def first_only(case: Case) -> Case:
    """The case with the first box found alone, as single-box reads it."""
    return replace(case, found=case.found[:1])


def overlaps(cases: Sequence[Case]) -> list[float]:
    """IoU of the areas found and true, for each case."""
    return [metrics.union_iou(case.boxes, case.true) for case in cases]


def spread(values: Sequence[float], each: int) -> list[tuple[str, list[int]]]:
    """("best", places), ("middling", places), ("worst", places): up to `each`, no place twice."""
    order = np.argsort(-np.asarray(values), kind="stable").tolist()
    each = max(1, min(each, len(order) // 3))
    middle = max(0, len(order) // 2 - each // 2)
    kept, seen = [], set[int]()
    for name, some in (
        ("Best", order[:each]),
        ("Middling", order[middle : middle + each]),
        ("Worst", order[-each:]),
    ):
        if fresh := [place for place in some if place not in seen]:
            kept.append((name, fresh))
        seen.update(fresh)
    return kept


def gallery(
    title: str, note: str, places: Sequence[int], models: Mapping[str, Sequence[Case]], folder: Path
) -> Gallery:
    """The phrases at these places, each with a picture for every model; FOLDER is where paths start."""
    load = _loader(folder)
    exhibits = []
    for place in places:
        cases = {name: cases[place] for name, cases in models.items()}
        words = next(iter(cases.values())).phrase.text
        exhibits.append(Exhibit(words, [_picture(name, case, load) for name, case in cases.items()]))
    return Gallery(title, note, exhibits)


def _loader(folder: Path) -> Callable[[str], np.ndarray]:
    from medground import images

    return lru_cache(maxsize=2)(lambda path: images.load(folder / path))


def _picture(name: str, case: Case, load: Callable[[str], np.ndarray]) -> Picture:
    from medground.figures import draw

    shown = draw.boxed(load(case.phrase.path), case.found, case.phrase.boxes or (), LONGEST)
    overlap = metrics.union_iou(case.boxes, case.true)
    return Picture(as_source(shown), name, f"IoU {overlap:.2f}" if case.found else "nothing found")


def as_source(picture: "Image") -> str:
    """The picture as a data URI that a page can hold."""
    return pages.embedded(picture, QUALITY)
