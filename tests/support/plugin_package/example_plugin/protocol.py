"""A protocol: the share of phrases whose first predicted box has its center in the true box."""

import numpy as np

from medground.evaluation.protocols import Protocol
from medground.evaluation.stats.figures import mean_over


def _measure(cases):
    inside = np.zeros(len(cases))
    found, true = cases.found, cases.true
    first, first_true = (np.cumsum(each) - each for each in (cases.counts, cases.true_counts))
    for n in np.flatnonzero(cases.counts > 0):
        (x1, y1, x2, y2), (left, top, right, bottom) = found[first[n]], true[first_true[n]]
        inside[n] = left <= (x1 + x2) / 2 <= right and top <= (y1 + y2) / 2 <= bottom
    return {"center": mean_over(inside)}


CENTER_INSIDE = Protocol(lambda phrase: len(phrase.boxes or ()) == 1, _measure, "center")
