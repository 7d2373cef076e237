"""Patient-cluster bootstrap: the variation of a figure if other patients had been in the test set.

Phrases of one patient are correlated, so patients, not phrases, are drawn with replacement. A draw is a row
of weights: the number of times that each patient was drawn. All figures use the same draws, so differences
are paired.

Letters: N items, C clusters (patients), D draws, G groups, U sums. A figure gives (D, G) values, NaN if a
group has no item in that draw.
"""

import itertools
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
CELLS = 12_000_000  # weights in memory at once: 96 MB
LEVELS = (0.025, 0.975)
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, eq=False)
class Split:
    """The clusters and groups of N items: (N,) clusters and (G, N) masks."""

    owners: NDArray[np.int64]
    masks: NDArray[np.bool_]
    clusters: int


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """(N,) numbers whose sums over the items of each group are needed."""

    values: Array
    split: Split

    def sums(self) -> Array:
        """Return the (C, G) sums over each cluster's items in each group."""
        own = self.split
        found = np.zeros((own.clusters, len(own.masks)))
        for column, mask in zip(found.T, own.masks, strict=True):
            column += np.bincount(own.owners[mask], weights=self.values[mask], minlength=own.clusters)
        return found

    @property
    def key(self) -> tuple[int, bytes]:
        """A key that is equal for columns with equal sums."""
        return id(self.split), self.values.tobytes()


@dataclass(frozen=True)
class Draws:
    """(D, C) number of times that each cluster was drawn."""

    weights: Array

    @cached_property
    def times(self) -> NDArray[np.float32]:
        """(C, D) transposed weights: one row per cluster."""
        return np.ascontiguousarray(self.weights.T, dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """A figure of each group: its value from the draws and the (D, G) sums of its columns in them.

    kinds: columns that are above 0 for the items that the figure needs, such as the present and the absent
    phrases of an AUC. Empty if it takes every item.
    """

    columns: Sequence[Column]
    value: Callable[[Draws, Sequence[Array]], Array]
    kinds: Sequence[Column] = ()

    def patients(self) -> NDArray[np.int64]:
        """Return the (G,) clusters with an item of the group: of the kind that fewest of them have."""
        split = self.columns[0].split
        kinds = self.kinds or [Column(np.ones(len(split.owners)), split)]
        found: NDArray[np.int64] = np.min([np.count_nonzero(kind.sums(), axis=0) for kind in kinds], axis=0)
        return found


@dataclass(frozen=True, slots=True)
class Sample:
    """One figure for each group: its (G,) value on the data, and its (D, G) values over the draws.

    patients: (G,) clusters that it is computed from.
    """

    value: Array
    draws: Array
    patients: NDArray[np.int64]

    def __sub__(self, other: "Sample") -> "Sample":
        fewer = np.minimum(self.patients, other.patients)
        return Sample(self.value - other.value, self.draws - other.draws, fewer)

    def mean_of(self, groups: list[int]) -> "Sample":
        """Return the plain mean over some groups as one group; draws leave out groups without an item."""
        value, draws = _mean(self.value[None, groups]), _mean(self.draws[:, groups])
        return Sample(value, draws[:, None], self.patients[groups].max(keepdims=True))

    def beside(self, other: "Sample") -> "Sample":
        """Return the groups of both, one after the other."""
        draws, patients = np.hstack([self.draws, other.draws]), np.append(self.patients, other.patients)
        return Sample(np.append(self.value, other.value), draws, patients)


def draw_weights(clusters: int, draws: int, seed: int) -> Iterator[Array]:
    """Yield the (D, C) weights in blocks of rows; each row sums to C.

    The same seed gives the same weights.
    """
    rng = np.random.default_rng(seed)
    rows = max(1, min(draws, CELLS // max(1, clusters)))
    for first in range(0, draws if clusters else 0, rows):
        count = min(rows, draws - first)
        drawn = rng.integers(0, clusters, size=(count, clusters))
        drawn += np.arange(count)[:, None] * clusters
        times = np.bincount(drawn.ravel(), minlength=count * clusters)
        yield times.reshape(count, clusters).astype(np.float64)


def resample(figures: Mapping[Name, Figure], clusters: int, draws: int, seed: int) -> dict[Name, Sample]:
    """Return each figure on the data (every cluster once) and over the same draws.

    The sums of all figures come from one matrix product, in which equal columns occur once.
    """
    columns = {column.key: column for figure in figures.values() for column in figure.columns}
    places, sums = _stacked(columns, clusters)
    of_figure = {name: [places[c.key] for c in figure.columns] for name, figure in figures.items()}

    def values(drawn: Draws) -> dict[Name, Array]:
        summed = drawn.weights @ sums
        return {
            name: figure.value(drawn, [summed[:, place] for place in of_figure[name]])
            for name, figure in figures.items()
        }

    once = values(Draws(np.ones((1, clusters))))
    blocks = [values(Draws(weights)) for weights in draw_weights(clusters, draws, seed)]
    return {
        name: Sample(
            each[0], np.vstack([each[:0], *(block[name] for block in blocks)]), figures[name].patients()
        )
        for name, each in once.items()
    }


def _stacked(
    columns: Mapping[tuple[int, bytes], Column], clusters: int
) -> tuple[dict[tuple[int, bytes], slice], Array]:
    """Return the columns of each column's groups in the one (C, U) matrix of all sums, and that matrix."""
    places, width = {}, 0
    for key, column in columns.items():
        groups = len(column.split.masks)
        places[key] = slice(width, width + groups)
        width += groups
    sums = np.zeros((clusters, width))
    for key, column in columns.items():
        sums[:, places[key]] = column.sums()
    return places, sums


def interval(draws: Array) -> tuple[float, float] | None:
    """Return the 95 % percentile interval of (D,) draws, None if no draw has a value.

    Draws without a value are left out.
    """
    known = draws[~np.isnan(draws)]
    if not len(known):
        return None
    low, high = np.quantile(known, LEVELS)
    return float(low), float(high)


def p_value(differences: Array) -> float | None:
    """Return the two-sided p-value for "no difference", None without a draw.

    It is twice the share of draws on the other side of 0, so it is below .05 if the 95 % interval excludes 0.
    It is never 0: at least 2 / (D + 1).
    """
    known = differences[~np.isnan(differences)]
    if not len(known):
        return None
    tail = min(np.sum(known <= 0), np.sum(known >= 0))
    return float(min(1.0, 2 * (tail + 1) / (len(known) + 1)))


def sign_flip_p(differences: Array) -> float:
    """Return the exact two-sided p-value for "no difference" of few patients' (C,) summed differences.

    It is the share of all 2^C choices of signs whose sum is at least as far from 0. A bootstrap of few
    patients gives values that are far too small.
    """
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(differences))))
    sums = np.abs(signs @ differences)
    return float(np.mean(sums >= abs(differences.sum()) - 1e-12))


def exact_bounds(share: float, patients: int) -> tuple[float, float]:
    """Return the 95 % interval of a share that is 0 or 1 in each of the patients (Clopper and Pearson 1934).

    All draws of a bootstrap are equal then, so its interval would be one point.
    """
    reach = LEVELS[0] ** (1 / patients)
    return (reach, 1.0) if share else (0.0, 1 - reach)


def _mean(rows: Array) -> Array:
    """Return the mean of each row without its NaN; NaN for a row of NaN only."""
    known = ~np.isnan(rows)
    count = known.sum(axis=1)
    total = np.where(known, rows, 0).sum(axis=1)
    result: Array = np.divide(total, count, out=np.full(len(rows), np.nan), where=count > 0)
    return result
