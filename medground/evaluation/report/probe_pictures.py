"""Phrases under each perturbation as pictures: the input, the predicted boxes and the true ones."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from medground.evaluation import metrics, robustness
from medground.evaluation.report.pictures import LONGEST, Exhibit, Gallery, Picture, as_source
from medground.evaluation.robustness import Image, Perturbed
from medground.records import ScoredBox

SHOWN = 4  # phrases


def galleries(found: Sequence[Perturbed], folder: Path) -> list[Gallery]:
    """Return some of the phrases with the most perturbations, evenly spaced. Paths start in the folder.

    Foreign phrases are left out: they have no true box.
    """
    if not found:
        return []
    of_phrase: dict[int, list[Perturbed]] = {}
    for each in (one for one in found if one.probe != robustness.FOREIGN):
        of_phrase.setdefault(id(each.phrase), []).append(each)
    most = max(map(len, of_phrase.values()), default=0)
    full = [some for some in of_phrase.values() if len(some) == most]
    for some in full:
        some.sort(key=lambda each: robustness.PROBES.index(each.probe))
    chosen = [full[place * len(full) // SHOWN] for place in range(min(SHOWN, len(full)))]
    note = (
        "boxes with the predicted probability that the finding is present; boxes are scaled to another "
        "patient's image"
    )
    return [Gallery("Phrases under each perturbation", note, [_exhibit(some, folder) for some in chosen])]


def _exhibit(found: Sequence[Perturbed], folder: Path) -> Exhibit:
    from medground import images

    load = lru_cache(maxsize=2)(lambda path: images.load(folder / path))
    return Exhibit(found[0].phrase.text, [_picture(each, load(each.shown)) for each in found])


def _picture(predicted: Perturbed, image: Image) -> Picture:
    from medground.figures import draw

    if predicted.probe in (robustness.BLANK, robustness.MIRRORED):
        image = robustness.mirrored(image) if predicted.probe == robustness.MIRRORED else np.zeros_like(image)
    scale = np.tile([image.shape[1] / predicted.size[0], image.shape[0] / predicted.size[1]], 2)
    present = min(1.0, max(0.0, predicted.present))
    found = [ScoredBox(box=tuple(box), score=present) for box in (predicted.boxes * scale).tolist()]
    truth = robustness.truth_of(predicted)
    title = predicted.probe
    if predicted.text != predicted.phrase.text:
        title += f": {predicted.text}"
    drawn = draw.boxed(image, found, [tuple(box) for box in (truth * scale).tolist()], LONGEST)
    return Picture(as_source(drawn), title, f"IoU {metrics.union_iou(predicted.boxes, truth):.2f}")
