"""Splits that are drawn by patient: the split of a patient follows only from its ID and a seed.

So two files of one data set, or two versions of it, give a patient the same split. The shares are met up to
chance: of P patients, a share s has P s +/- sqrt(P s (1 - s)).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from medground.errors import MedgroundError

PARTS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Drawn:
    """Shares of training, validation and test patients, and the seed; a share may be 0.

    unit: what is drawn, for `name`: "patients", or "images" if the data set names no patients.
    """

    shares: Sequence[float]
    seed: int = 0
    unit: str = "patients"

    def __post_init__(self) -> None:
        if len(self.shares) != len(PARTS) or min(self.shares) < 0 or abs(sum(self.shares) - 1) > 1e-6:
            raise MedgroundError("--split-shares: expected three shares with the sum 1")

    def of(self, patient: str) -> str:
        """Return "train", "val" or "test"."""
        digest = hashlib.sha256(f"{self.seed}|{patient}".encode()).digest()
        place, end = int.from_bytes(digest[:8]) / 2**64, 0.0
        for part, share in zip(PARTS, self.shares, strict=True):
            end += share
            if share and place < end:
                return part
        return next(part for part, share in zip(PARTS, self.shares, strict=True) if share)

    @property
    def name(self) -> str:
        """The rule, as records and scores state it."""
        shown = ":".join(f"{100 * share:g}" for share in self.shares)
        return f"{self.unit} {shown}, seed {self.seed}"


def validation_of(share: float, seed: int) -> Drawn:
    """Return the division of a published training part into training and validation patients."""
    return Drawn((1 - share, share, 0.0), seed)


class OnePart:
    """A check that each patient is in the training or in the test part of a published split, not in both."""

    def __init__(self) -> None:
        self.tested: dict[str, bool] = {}

    def check(self, patient: str, is_test: bool, place: str) -> None:
        """Raise MedgroundError for a patient of both parts; the message has no ID."""
        if self.tested.setdefault(patient, is_test) != is_test:
            problem = "this patient is in the training and in the test part; is the list of this data set?"
            raise MedgroundError(f"{place}{problem}")
