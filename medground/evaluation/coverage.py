"""The measured coverage of predicted boxes. If records state a `coverage` c, a share c of the true boxes
should lie wholly inside a box predicted for their phrase.

`covered` is the measured share of the true boxes of a group. Its interval over patients shows whether it
differs from c. `n` counts true boxes.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from medground.errors import MedgroundError
from medground.evaluation.cases import Case
from medground.evaluation.stats import groups, scoring
from medground.evaluation.stats.bootstrap import Array
from medground.evaluation.stats.figures import Ratio
from medground.evaluation.stats.scoring import Measured
from medground.leakage import Marked

KEY = "coverage"
SLACK = 1e-6  # pixels: tolerance for decimals that are no binary fractions


def stated(groundings: Iterable[Marked]) -> dict[str, float]:
    """Return {"coverage": c} if the records state a coverage, {} if none does. Raises if they differ."""
    found = {each.extra.get(KEY) for each in groundings}
    if found <= {None}:
        return {}
    value = next(iter(found - {None}))
    if len(found) > 1 or not isinstance(value, float | int) or not 0 < value < 1:
        raise MedgroundError(f"the records state different things as {KEY}: expected the same share")
    return {KEY: float(value)}


def covered(true: Array, found: Array) -> int:
    """Return the number of true boxes (T, 4) that lie wholly inside a predicted box (F, 4)."""
    if not len(true) or not len(found):
        return 0
    low = found[None, :, :2] <= true[:, None, :2] + SLACK
    high = found[None, :, 2:] >= true[:, None, 2:] - SLACK
    whole = np.asarray(np.concatenate([low, high], axis=2).all(axis=2))  # (T, F)
    return int(np.asarray(whole.any(axis=1)).sum())


def measure(cases: Iterable[Case]) -> Measured:
    """Return the share of true boxes that are covered, over the phrases that have any."""
    drawn: Sequence[Case] = [case for case in cases if case.phrase.boxes]
    phrases = [case.phrase for case in drawn]
    parted = groups.of_phrases(phrases)
    counts = np.array([len(case.true) for case in drawn], dtype=float)
    hits = np.array([covered(case.true, case.boxes) for case in drawn], dtype=float)
    return Measured(
        protocol=KEY,
        groups=parted,
        owners=scoring.clusters(phrases),
        counts=[int(counts[mask].sum()) for mask in parted.masks],
        own={"covered": Ratio([(hits, counts)])},
    )
