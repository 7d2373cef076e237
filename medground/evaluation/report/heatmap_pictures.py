"""Heat maps over their images, with the true boxes, as pictures for a page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medground.evaluation.report import pictures
from medground.evaluation.report.pictures import LONGEST, Exhibit, Gallery, Picture, as_source
from medground.evaluation.stats.bootstrap import Array
from medground.records import Phrase

if TYPE_CHECKING:
    from PIL.Image import Image

EACH = 3  # best, median and worst phrases shown
MOST_DIFFERENT = 10
COLOUR = (255, 138, 0)
STRONGEST = 0.6  # opacity of the color where the heat map is 1


@dataclass(frozen=True, slots=True)
class Hot:
    """A phrase under its heading: each model's heat map, None without one, and its IoU."""

    heading: str
    phrase: Phrase
    heatmaps: Mapping[str, Array | None]
    ious: Mapping[str, float]


Read = Callable[[Phrase], Array | None]


def choose(
    phrases: Sequence[Phrase], reads: Mapping[str, Read], ious: Mapping[str, Sequence[float]]
) -> list[Hot]:
    """Return the phrases on which two models differ most, then the first model's best, median and worst."""
    own, *others = ious.values()
    places = [(f"{name} phrases", place) for name, some in pictures.spread(own, EACH) for place in some]
    if others:
        apart = sorted(range(len(own)), key=lambda place: -abs(own[place] - others[0][place]))
        places = [("Where the two differ most", place) for place in apart[:MOST_DIFFERENT]] + places
    return [
        Hot(
            heading,
            phrases[place],
            {name: read(phrases[place]) for name, read in reads.items()},
            {name: values[place] for name, values in ious.items()},
        )
        for heading, place in places
    ]


def galleries(chosen: Sequence[Hot], folder: Path) -> list[Gallery]:
    """Return one gallery per heading; `folder` is the root of the phrases' paths."""
    note = "the heat map in orange, by the mean IoU over five thresholds"
    return [
        Gallery(heading, note, [_exhibit(each, folder) for each in chosen if each.heading == heading])
        for heading in dict.fromkeys(each.heading for each in chosen)
    ]


def _exhibit(hot: Hot, folder: Path) -> Exhibit:
    from medground import images

    load = lru_cache(maxsize=1)(lambda path: images.load(folder / path))
    shown = [
        Picture(as_source(_drawn(load(hot.phrase.path), hot.phrase, heat)), name, f"IoU {hot.ious[name]:.2f}")
        for name, heat in hot.heatmaps.items()
    ]
    return Exhibit(hot.phrase.text, shown)


def _drawn(image: np.ndarray, phrase: Phrase, heat: Array | None) -> "Image":
    """Return the image with the true boxes, tinted in proportion to the heat map, which is cut to [0, 1]."""
    from PIL import Image as pillow

    from medground.figures import draw

    picture = draw.boxed(image, [], phrase.boxes or (), LONGEST)
    if heat is None:
        return picture
    mask = pillow.fromarray((np.clip(np.nan_to_num(heat), 0, 1) * STRONGEST * 255).astype(np.uint8))
    mask = mask.resize(picture.size, pillow.Resampling.BILINEAR)
    return pillow.composite(pillow.new("RGB", picture.size, COLOUR), picture, mask)
