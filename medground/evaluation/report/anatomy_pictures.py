"""The films on which the boxes of regions fit worst, as pictures for a page.

A film with all its boxes, found and true, is a thicket. So a picture shows the regions that fit worst, and
names them in its note with their IoU.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medground import boxes
from medground.evaluation.anatomy import Answers
from medground.evaluation.report.pictures import LONGEST, Exhibit, Gallery, Picture, as_source
from medground.records import Anatomy, Box, Region, ScoredBox

MOST = 10  # films shown
REGIONS = 5  # regions shown on each


@dataclass(frozen=True, slots=True)
class AnatomyImage:
    """A film of the truth and, for each model, its regions and the IoU of each true one, 0 without a box."""

    truth: Anatomy
    found: Mapping[str, Mapping[str, Region]]
    overlaps: Mapping[str, Mapping[str, float]]

    @property
    def value(self) -> float:
        """The first model's mean IoU."""
        return float(np.mean(list(next(iter(self.overlaps.values())).values())))


def films(truth: Sequence[Anatomy], own: Answers, other: Answers | None) -> list[AnatomyImage]:
    """Each film of the truth that has regions, with the answers of the model and of another, if given."""
    models = {"model": own} | ({} if other is None else {"other": other})
    return [_film(anatomy, models) for anatomy in truth if anatomy.regions]


def _film(anatomy: Anatomy, models: Mapping[str, Answers]) -> AnatomyImage:
    found = {
        name: {region.name: region for region in answers[anatomy.image_id].regions}
        if anatomy.image_id in answers
        else {}
        for name, answers in models.items()
    }
    return AnatomyImage(anatomy, found, {name: _overlaps(anatomy, each) for name, each in found.items()})


def _overlaps(truth: Anatomy, found: Mapping[str, Region]) -> dict[str, float]:
    return {
        each.name: _iou(each.box, found[each.name].box) if each.name in found else 0.0
        for each in truth.regions
    }


def _iou(a: Box, b: Box) -> float:
    return float(boxes.paired_iou(np.array([a], float), np.array([b], float))[0])


def worst(shown: Sequence[AnatomyImage], folder: Path) -> Gallery:
    """The films with the lowest mean IoU, the worst first; FOLDER is where their paths start."""
    order = sorted(shown, key=lambda film: film.value)[:MOST]
    note = f"by mean IoU over the true boxes; the {REGIONS} regions that fit worst are drawn"
    return Gallery("Worst films", note, [_exhibit(film, folder) for film in order])


def _exhibit(film: AnatomyImage, folder: Path) -> Exhibit:
    from medground import images

    image = images.load(folder / film.truth.path)
    words = f"{film.truth.image_id}: mean IoU {film.value:.2f}"
    return Exhibit(words, [_picture(film, name, image) for name in film.found])


def _picture(film: AnatomyImage, name: str, image: np.ndarray) -> Picture:
    from medground.figures import draw

    overlaps, found = film.overlaps[name], film.found[name]
    shown = sorted(overlaps, key=lambda region: overlaps[region])[:REGIONS]
    drawn = [ScoredBox(box=found[each].box, score=found[each].score) for each in shown if each in found]
    true = [region.box for region in film.truth.regions if region.name in shown]
    note = ", ".join(f"{each} {overlaps[each]:.2f}" for each in shown)
    return Picture(as_source(draw.boxed(image, drawn, true, LONGEST)), name, note)
