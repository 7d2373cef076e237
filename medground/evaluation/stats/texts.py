"""Overlap of texts: corpus BLEU and ROUGE-L of words, as pycocoevalcap computes them.

A text is a list of words; cleaning and splitting are those of `evaluation.report_words`.
Letters: N items, D draws, G groups.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medground.evaluation.stats.bootstrap import Array, Column, Draws, Figure, Split

LONGEST = 4  # words of an n-gram
TINY, SMALL = 1e-15, 1e-9  # of pycocoevalcap, against a division by 0
BETA = 1.2  # of pycocoevalcap's ROUGE-L: recall counts more than precision
Words = Sequence[str]


@dataclass(frozen=True)
class NGrams:
    """The n-grams that predicted texts share with the true ones.

    lengths: (2, N) words of the predicted and the true texts. shared: (4, N), each n-gram at most as often as
    the true text has it. predicted: (4, N).
    """

    lengths: Array
    shared: Array
    predicted: Array

    @classmethod
    def of(cls, found: Sequence[Words], true: Sequence[Words]) -> "NGrams":
        """Return the counts of N predicted and true texts."""
        shared = [[_shared(a, b, n) for a, b in zip(found, true, strict=True)] for n in range(1, LONGEST + 1)]
        predicted = [[max(0, len(a) - n + 1) for a in found] for n in range(1, LONGEST + 1)]
        lengths = [[len(each) for each in texts] for texts in (found, true)]
        return cls(*(np.array(each, dtype=float) for each in (lengths, shared, predicted)))


def _shared(found: Words, true: Words, n: int) -> int:
    return sum((_grams(found, n) & _grams(true, n)).values())


def _grams(words: Words, n: int) -> "Counter[tuple[str, ...]]":
    return Counter(zip(*(words[start:] for start in range(n)), strict=False))


@dataclass(frozen=True, slots=True, eq=False)
class Bleu:
    """Corpus BLEU of 1- to `order`-grams with one true text each (Papineni et al. 2002)."""

    counts: NGrams
    order: int

    def bind(self, split: Split) -> Figure:
        """Return the figure of each group of the split, given weights of the clusters of the items."""
        counts, order = self.counts, self.order
        rows = [*counts.lengths, *counts.shared[:order], *counts.predicted[:order]]

        def value(_: Draws, sums: Sequence[Array]) -> Array:
            found, true, *grams = sums
            parts = [(a + TINY) / (b + SMALL) for a, b in zip(grams[:order], grams[order:], strict=True)]
            mean = np.prod(parts, axis=0) ** (1 / order)
            ratio = (found + TINY) / (true + SMALL)
            brevity = np.exp(np.minimum(0, 1 - 1 / ratio))
            result: Array = np.where(true > 0, mean * brevity, np.nan)
            return result

        return Figure([Column(row, split) for row in rows], value)


def rouge_l(found: Words, true: Words) -> float:
    """Return ROUGE-L, the F-measure of the longest common subsequence (Lin 2004), in [0, 1]."""
    shared = common_subsequence(found, true)
    if not shared:
        return 0.0
    precision, recall = shared / len(found), shared / len(true)
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def common_subsequence(one: Words, other: Words) -> int:
    """Return the length of the longest common subsequence, with one bit per word (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for n, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << n
    every = (1 << len(one)) - 1
    rest = every
    for word in other:
        matched = rest & places.get(word, 0)
        rest = (rest + matched | rest - matched) & every
    return (every & ~rest).bit_count()
