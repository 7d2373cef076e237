"""Labels of many images as one table, with the rows of each split and shares of the training patients.

Letters: N images, K classes.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medground.downstream import splits
from medground.downstream.splits import Rows
from medground.errors import BadRecord, MedgroundError
from medground.records import Label

UNKNOWN = -1


@dataclass(frozen=True)
class LabelTable:
    """Images with (N, K) states: 1, 0, or -1 for uncertain and not stated; `rows` of each split."""

    labels: list[Label]
    classes: list[str]
    states: NDArray[np.int8]
    rows: dict[str, Rows]

    @property
    def exclusive(self) -> bool:
        """True if each image has exactly one of several classes."""
        one = ((self.states == 1).sum(axis=1) == 1).all() and (self.states != UNKNOWN).all()
        return len(self.classes) > 1 and bool(one)

    def digest(self, folder: Path) -> str:
        """Return a hash of the images, in their order: their names, and the sizes of their files."""
        whole = hashlib.sha256()
        for each in self.labels:
            path = folder / each.path
            size = path.stat().st_size if path.is_file() else None
            whole.update(f"{each.image_id}\0{each.path}\0{size}\0".encode())
        return whole.hexdigest()[:12]

    def share(self, share: float, seed: int) -> Rows:
        """Return the rows of a share of the training patients, at least one; see `splits.share_of`."""
        return splits.share_of(self.labels, self.rows["train"], share, seed)


def of(labels: Iterable[Label], allow_leakage: bool = False) -> tuple[LabelTable, bool]:
    """Return the table of all labels, and whether patients leak between splits.

    Raises MedgroundError for a second line of an image, for a split without an image, and for patients in two
    splits unless leakage is allowed.
    """
    kept: list[Label] = []
    seen: set[str] = set()
    for label in labels:
        if label.image_id in seen:
            raise MedgroundError(f"line {len(kept) + 1}: image_id: the second line with this image")
        seen.add(label.image_id)
        kept.append(label)
    rows, leaks = splits.rows_of(kept, "a probe", allow_leakage)
    classes = list(kept[0].labels)
    states = [[_state(each.labels[name]) for name in classes] for each in kept]
    return LabelTable(kept, classes, np.array(states, dtype=np.int8), rows), leaks


def _state(value: int | None) -> int:
    return UNKNOWN if value is None else value


def check() -> "Check":
    """Return a check of lines for `jsonl.read`."""
    return Check()


class Check:
    """A check that raises BadRecord for an image without a class, and for other classes than the first."""

    def __init__(self) -> None:
        self.classes: frozenset[str] | None = None

    def __call__(self, label: Label) -> None:
        """Check one line."""
        own = frozenset(label.labels)
        if not own:
            raise BadRecord("an image without a class", "labels")
        self.classes = self.classes or own
        if own != self.classes:
            raise BadRecord(
                "other classes than in the first line; null is a class that is not stated", "labels"
            )
