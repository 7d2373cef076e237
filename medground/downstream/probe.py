"""The stage of `medground probe`: features and labels -> predicted classes of validation and test images."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medground.downstream import fits, splits
from medground.downstream.label_table import LabelTable
from medground.records import Classification

DIGITS = 8
ZERO_SHOT = "zero-shot"


@dataclass(frozen=True, slots=True)
class Plan:
    """The runs: every share of the training patients with every seed, by the fit of a name in `fits`."""

    shares: Sequence[float] = (1.0,)
    seeds: Sequence[int] = (0,)
    fit: str = "logistic"

    def runs(self) -> list[tuple[float, int]]:
        """Return (share, seed) of each run."""
        return splits.runs_of(self.shares, self.seeds)


def predict(
    features: NDArray[np.float32],
    table: LabelTable,
    plan: Plan,
    model: str,
    extra: dict[str, Any],
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> Iterator[Classification]:
    """Yield the scores of each class on each validation and test image, run by run.

    features: (N, D), row i of the table's image i. model: the name of the encoder. extra: further keys.
    """
    fit, val = fits.named(plan.fit), table.rows["val"]
    for share, seed in progress(plan.runs()):
        own = table.share(share, seed)
        given = fits.Given(
            features[own], table.states[own], features[val], table.states[val], table.exclusive
        )
        keys = {"share": share, "seed": seed, "fit": plan.fit, "train_images": len(own)}
        yield from scored(features, table, fit(given, seed), model, keys | extra)


def scored(
    features: NDArray[np.float32],
    table: LabelTable,
    classifier: Callable[[NDArray[np.float32]], NDArray[np.float64]],
    model: str,
    extra: dict[str, Any],
) -> Iterator[Classification]:
    """Yield the scores of a classifier on each validation and test image; arguments as in `predict`."""
    rows = np.sort(np.concatenate([table.rows["val"], table.rows["test"]]))
    scores = classifier(features[rows]).round(DIGITS)
    for row, values in zip(rows.tolist(), scores.tolist(), strict=True):
        yield Classification(
            image_id=table.labels[row].image_id,
            scores=dict(zip(table.classes, values, strict=True)),
            model=model,
            extra=extra | {"split": table.labels[row].split},
        )
