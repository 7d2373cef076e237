"""The images on which the boxes of regions fit worst, as pictures for a page.

All boxes of an image are too many for one picture. It shows only the regions that fit worst, and names them
in its note with their IoU.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medground import boxes
from medground.evaluation.report.pictures import LONGEST, Exhibit, Gallery, Picture, as_source
from medground.records import Anatomy, Box, Region, ScoredBox

MOST = 10  # images shown
REGIONS = 5  # regions shown on each


@dataclass(frozen=True, slots=True)
class AnatomyImage:
    """An image and, for each model, the predicted regions and the IoU of each true one, 0 without a box."""

    truth: Anatomy
    found: Mapping[str, Mapping[str, Region]]
    overlaps: Mapping[str, Mapping[str, float]]

    @property
    def value(self) -> float:
        """Return the first model's mean IoU."""
        return float(np.mean(list(next(iter(self.overlaps.values())).values())))


Found = Mapping[str, Anatomy]  # by image_id


def images_of(truth: Sequence[Anatomy], own: Found, other: Found | None) -> list[AnatomyImage]:
    """Return each image of the truth that has regions, with the predictions of one or two models."""
    models = {"model": own} | ({} if other is None else {"other": other})
    return [_image(anatomy, models) for anatomy in truth if anatomy.regions]


def _image(anatomy: Anatomy, models: Mapping[str, Found]) -> AnatomyImage:
    found = {
        name: {region.name: region for region in predicted[anatomy.image_id].regions}
        if anatomy.image_id in predicted
        else {}
        for name, predicted in models.items()
    }
    return AnatomyImage(anatomy, found, {name: _overlaps(anatomy, each) for name, each in found.items()})


def _overlaps(truth: Anatomy, found: Mapping[str, Region]) -> dict[str, float]:
    return {
        each.name: _iou(each.box, found[each.name].box) if each.name in found else 0.0
        for each in truth.regions
    }


def _iou(a: Box, b: Box) -> float:
    return float(boxes.paired_iou(np.array([a], float), np.array([b], float))[0])


def galleries(shown: Sequence[AnatomyImage], folder: Path) -> list[Gallery]:
    """Return the images with the lowest mean IoU, the worst first. Paths start in the folder."""
    if not shown:
        return []
    order = sorted(shown, key=lambda each: each.value)[:MOST]
    note = f"by mean IoU over the true boxes; only the {REGIONS} regions that fit worst are shown"
    return [Gallery("Worst images", note, [_exhibit(each, folder) for each in order])]


def _exhibit(scored: AnatomyImage, folder: Path) -> Exhibit:
    from medground import images

    image = images.load(folder / scored.truth.path)
    words = f"{scored.truth.image_id}: mean IoU {scored.value:.2f}"
    return Exhibit(words, [_picture(scored, name, image) for name in scored.found])


def _picture(scored: AnatomyImage, name: str, image: np.ndarray) -> Picture:
    from medground.figures import draw

    overlaps, found = scored.overlaps[name], scored.found[name]
    shown = sorted(overlaps, key=lambda region: overlaps[region])[:REGIONS]
    drawn = [ScoredBox(box=found[each].box, score=found[each].score) for each in shown if each in found]
    true = [region.box for region in scored.truth.regions if region.name in shown]
    note = ", ".join(f"{each} {overlaps[each]:.2f}" for each in shown)
    return Picture(as_source(draw.boxed(image, drawn, true, LONGEST)), name, note)
