"""Splits of records, and shares of the training patients. Letter: N records."""

import hashlib
import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medground import leakage
from medground.errors import MedgroundError

PARTS = ("train", "val", "test")
Rows = NDArray[np.int64]


class Split(leakage.Imaged, Protocol):
    """A record of an image that may have a split."""

    @property
    def split(self) -> str | None:
        """One of `PARTS`; records of other splits are not used."""


def rows_of(records: Sequence[Split], use: str, allow_leakage: bool = False) -> tuple[dict[str, Rows], bool]:
    """Return the rows of each split among N records, and whether patients leak between splits.

    use: "a probe", for the message. Raises MedgroundError for a split without an image, and for patients in
    two splits unless leakage is allowed.
    """
    parts = {name: [each for each in records if each.split == name] for name in PARTS}
    for name, own in parts.items():
        if not own:
            raise MedgroundError(f"split: no image is of {name}; {use} needs train, val and test")
    leaks = leakage.check(
        leakage.between(parts), allow_leakage, "draw the splits by patient, or give --allow-leakage"
    )
    split = np.array([each.split or "" for each in records])
    return {name: np.flatnonzero(split == name) for name in PARTS}, leaks


def runs_of(shares: Sequence[float], seeds: Sequence[int]) -> list[tuple[float, int]]:
    """Return (share, seed) of each run: every different share with every seed."""
    return [(share, seed) for share in dict.fromkeys(shares) for seed in seeds]


def share_of(records: Sequence[Split], rows: Rows, share: float, seed: int) -> Rows:
    """Return those of the rows that belong to a share of their patients, at least one.

    The order of the patients follows from the seed, so smaller shares are parts of larger ones.
    """
    patients = leakage.patients_of(records[row] for row in rows)
    ordered = sorted({*patients}, key=lambda name: hashlib.sha256(f"{seed}|{name}".encode()).digest())
    kept = {*ordered[: max(1, math.ceil(share * len(ordered) - 1e-9))]}
    return rows[[name in kept for name in patients]]
