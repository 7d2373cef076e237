"""The thresholds of gk-mvlp's findings with the best F1 on validation images, for its writer.

A finding that fewer than `LEAST` of the reports state takes the threshold of all findings together. Findings
that a report calls uncertain are left out.

Letters: N images, F findings.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medground.anatomy.detect import batches
from medground.data import examples
from medground.data.examples import Example
from medground.downstream.report_writing import ReportModel
from medground.errors import MedgroundError
from medground.models import letterboxed
from medground.objectives import knowledge, tags
from medground.objectives.gkmvlp import GKMVLP
from medground.records import Anatomy, Sentence
from medground.thresholds import best_threshold

LEAST = 5


def validation_images(
    sentences: Iterable[Sentence], anatomy: Mapping[str, Anatomy]
) -> list[tuple[Anatomy, Example]]:
    """Return the images of `anatomy` whose study has sentences, each with the findings of its report."""
    known: dict[str, Example] = {}
    examples.from_anatomy(anatomy.values(), known, synonyms=False)
    examples.from_sentences(sentences, known)
    return [(anatomy[name], each) for name, each in known.items() if each.report]


def fit(
    model: ReportModel,
    images: Iterable[tuple[Anatomy, Example]],
    folder: Path,
    batch_size: int = 8,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> None:
    """Set the thresholds of the model's findings to those with the best F1 on `validation_images`.

    Raises MedgroundError for a model without gk-mvlp, and without any image.
    """
    objective = model.objective
    if not isinstance(objective, GKMVLP):
        raise MedgroundError("thresholds of findings need a model of gk-mvlp; leave out --val")
    chances, labels = [], []
    for some in progress(batches(images, batch_size)):
        pictures = [_read(each, folder, model.model.config.image_size) for each, _ in some]
        chances.append(model.chances(pictures, [each for each, _ in some]).double().cpu().numpy())
        labels += [tags.labels(knowledge.NAMES, each.findings) for _, each in some]
    if not chances:
        raise MedgroundError("no image of --anatomy belongs to a study of --val; compare their study_ids")
    found = thresholds(np.concatenate(chances), np.array(labels))
    objective.thresholds.copy_(torch.from_numpy(found))


def _read(anatomy: Anatomy, folder: Path, size: int) -> letterboxed.LetterboxedImage:
    found = letterboxed.read(folder / anatomy.path, size)
    return found.sized(anatomy.width, anatomy.height, anatomy.path, "its line of --anatomy")


def thresholds(chances: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (F,) thresholds of (N, F) probabilities and labels: 1 present, 0 not, -1 uncertain."""
    known, present = labels >= 0, labels == 1
    shared = best_threshold(chances[known], present[known])
    found = np.full(labels.shape[1], shared)
    for column in np.flatnonzero(present.sum(axis=0) >= LEAST):
        rows = known[:, column]
        found[column] = best_threshold(chances[rows, column], present[rows, column])
    return found
