"""Phrases under each probe as pictures: what was shown and asked, what was answered, where the truth lies."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from medground.evaluation import metrics, robustness
from medground.evaluation.report.pictures import LONGEST, Exhibit, Gallery, Picture, as_source
from medground.evaluation.robustness import Answer, Image
from medground.records import ScoredBox

SHOWN = 4  # phrases


def gallery(answers: Sequence[Answer], folder: Path) -> Gallery:
    """A few of the phrases with the most probes, at even distances; FOLDER is where their paths start.

    Foreign phrases are left out: there is no box to compare with."""
    of_phrase: dict[int, list[Answer]] = {}
    for each in (answer for answer in answers if answer.probe != robustness.FOREIGN):
        of_phrase.setdefault(id(each.phrase), []).append(each)
    most = max(map(len, of_phrase.values()), default=0)
    full = [some for some in of_phrase.values() if len(some) == most]
    for some in full:
        some.sort(key=lambda each: robustness.PROBES.index(each.probe))
    chosen = [full[place * len(full) // SHOWN] for place in range(min(SHOWN, len(full)))]
    note = (
        "boxes with the model's belief that there is something to show; on another patient's image: by shares"
    )
    return Gallery("Phrases under each probe", note, [_exhibit(some, folder) for some in chosen])


def _exhibit(answers: Sequence[Answer], folder: Path) -> Exhibit:
    from medground import images

    load = lru_cache(maxsize=2)(lambda path: images.load(folder / path))
    return Exhibit(answers[0].phrase.text, [_picture(each, load(each.shown)) for each in answers])


def _picture(answer: Answer, image: Image) -> Picture:
    from medground.figures import draw

    if answer.probe in (robustness.BLANK, robustness.MIRRORED):
        image = robustness.mirrored(image) if answer.probe == robustness.MIRRORED else np.zeros_like(image)
    scale = np.tile([image.shape[1] / answer.size[0], image.shape[0] / answer.size[1]], 2)
    belief = min(1.0, max(0.0, answer.present))
    found = [ScoredBox(box=tuple(box), score=belief) for box in (answer.boxes * scale).tolist()]
    truth = robustness.truth_of(answer)
    title = answer.probe if answer.text == answer.phrase.text else f"{answer.probe}: {answer.text}"
    drawn = draw.boxed(image, found, [tuple(box) for box in (truth * scale).tolist()], LONGEST)
    return Picture(as_source(drawn), title, f"IoU {metrics.union_iou(answer.boxes, truth):.2f}")
