"""Score records from the figures of a protocol: values, intervals, gains and differences.

Each metric X has these too, if there is a baseline or another model:
prior_X       the image-free baseline's figure          gain_X          X - prior_X
anatomy_X     that of the anatomy-relative baseline     over_anatomy_X  X - anatomy_X
shuffled_X    that of other patients' records  over_shuffled_X   X - shuffled_X
other_X       the other model's figure                  difference_X    X - other_X, with its p-value as `p`
All come from the same draws of the patients of the whole test set, so the intervals of gains and differences
are paired.

`n` counts the scored items of the group, for `macro` those of all its parts. Values are rounded to 10 digits,
bounds to 6: beyond that they would differ between machines.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medground import leakage
from medground.evaluation.stats import bootstrap
from medground.evaluation.stats.bootstrap import Figure, Sample, Split
from medground.evaluation.stats.figures import Ratio
from medground.evaluation.stats.groups import Groups
from medground.leakage import Imaged
from medground.records import Score

log = logging.getLogger(__name__)


class Bindable(Protocol):
    """A figure over items, such as `figures.Ratio`."""

    def bind(self, split: Split) -> Figure:
        """Return the figure of each group of the split, given weights of the clusters of the items."""


Figures = Mapping[str, Bindable]
# prefixes of metrics that compare, and the prefix of the figure minus each baseline
DERIVED = {
    "prior_": "gain_",
    "anatomy_": "over_anatomy_",
    "shuffled_": "over_shuffled_",
    "other_": "difference_",
}
BESIDE = tuple(prefix for both in DERIVED.items() for prefix in both)
FEW = 10  # patients: below, the p-value is exact, or there is none


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of N items: of the model, of the three baselines and of another model, if given.

    prior: of the image-free baseline. anatomy: of the same boxes, placed relative to detected lungs.
    shuffled: of the true records of other patients.
    owners: (N,) the cluster of each item. counts: scored items in each group. clusters: number of clusters in
    the whole test set, some of which may have no item here. None means that `owners` has all of them.
    """

    protocol: str
    groups: Groups
    owners: NDArray[np.int64]
    counts: Sequence[int]
    own: Figures
    prior: Figures | None = None
    anatomy: Figures | None = None
    shuffled: Figures | None = None
    other: Figures | None = None
    clusters: int | None = None
    keeps_empty: bool = True  # whether a figure without a value is a score


@dataclass(frozen=True, slots=True)
class Resampling:
    """The bootstrap samples of intervals, and the keys of each Score that state its origin."""

    draws: int = 10_000
    seed: int = 0
    origin: dict[str, Any] = field(default_factory=dict)


def clusters(items: Sequence[Imaged]) -> NDArray[np.int64]:
    """Return the (N,) number of each item's patient; without subject_id, each image is a patient.

    p10000032 and 10000032 are one patient, as in `leakage`.
    """
    numbers: dict[tuple[str, str], int] = {}
    keys = [("subject", leakage.bare(i.subject_id)) if i.subject_id else ("image", i.image_id) for i in items]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def warn_of_lone_images(items: Sequence[Imaged]) -> None:
    """Warn of images without subject_id: each counts as a patient."""
    if lone := len({each.image_id for each in items if not each.subject_id}):
        log.warning("no subject_id for %d images: each counts as a patient of its own in the intervals", lone)


def score(measured: Measured, how: Resampling) -> Iterator[Score]:
    """Yield the scores, group by group in the order of the groups, `macro` second; none without an item."""
    yield from score_all([measured], how)[0]


def score_all(measured: Sequence[Measured], how: Resampling) -> list[list[Score]]:
    """Return the scores of each measurement of one test set, from the same draws of its clusters."""
    all_samples = _samples(measured, how)
    return [list(_scores(one, samples, how)) for one, samples in zip(measured, all_samples, strict=True)]


def _scores(measured: Measured, samples: dict[str, Sample], how: Resampling) -> Iterator[Score]:
    for g, group in _rows(measured) if samples else ():
        for metric, sample in samples.items():
            if np.isnan(sample.value[g]) and not measured.keeps_empty:
                continue
            bounds, p = None, None
            if sample.patients[g] > 1:
                bounds = _bounds(metric, sample, g)
                p = _p_value(measured, metric, sample, g)
            yield Score(
                protocol=measured.protocol,
                metric=metric,
                group=group.name,
                value=_rounded(sample.value[g], 10),
                low=_rounded(bounds[0], 6) if bounds else None,
                high=_rounded(bounds[1], 6) if bounds else None,
                n=group.n,
                extra=({} if p is None else {"p": _rounded(p, 6)}) | how.origin,
            )


def _bounds(metric: str, sample: Sample, g: int) -> tuple[float, float] | None:
    """Return the interval; the exact one of a share that is 0 or 1 in every draw."""
    found = bootstrap.interval(sample.draws[:, g])
    if found and found[0] == found[1] in (0.0, 1.0) and not metric.startswith(tuple(DERIVED.values())):
        return bootstrap.exact_bounds(found[0], int(sample.patients[g]))
    return found


def _p_value(measured: Measured, metric: str, sample: Sample, g: int) -> float | None:
    """Return the p-value of a difference between two models: the exact one for few patients.

    None for other metrics, and for few patients if the metric is no mean over items.
    """
    if not metric.startswith("difference_") or measured.other is None:
        return None
    if sample.patients[g] >= FEW:
        return bootstrap.p_value(sample.draws[:, g])
    pair = [each[metric.removeprefix("difference_")] for each in (measured.own, measured.other)]
    if g >= len(measured.groups.masks) or not all(isinstance(e, Ratio) and len(e.parts) == 1 for e in pair):
        return None
    (one, counted), (other, _) = (each.parts[0] for each in pair if isinstance(each, Ratio))
    mask = measured.groups.masks[g] & (counted > 0)
    summed = np.bincount(measured.owners[mask], weights=(one - other)[mask])
    return bootstrap.sign_flip_p(summed[np.unique(measured.owners[mask])])


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    n: int


def _rows(measured: Measured) -> list[tuple[int, _Row]]:
    """Return each group with its number among the samples' groups. `macro`, the last there, comes second."""
    groups = measured.groups
    rows = [_Row(*row) for row in zip(groups.names, measured.counts, strict=True)]
    numbered = list(enumerate(rows))
    if groups.parts:
        total = sum(measured.counts[g] for g in groups.parts)
        numbered.insert(1, (len(rows), _Row("macro", total)))
    return numbered


def _samples(measured: Sequence[Measured], how: Resampling) -> list[dict[str, Sample]]:
    """Return name -> sample for each measurement, the model's metrics first; {} without an item."""
    splits: dict[tuple[int, int], Split] = {}
    for one in measured:
        key = id(one.owners), id(one.groups.masks)
        splits.setdefault(key, Split(one.owners, one.groups.masks, _clusters_of(one)))
    figures = {
        (number, name): figure
        for number, one in enumerate(measured)
        if len(one.owners)
        for name, figure in _bound(one, splits[id(one.owners), id(one.groups.masks)]).items()
    }
    clusters = max((_clusters_of(one) for one in measured), default=0)
    samples = bootstrap.resample(figures, clusters, how.draws, how.seed) if figures else {}
    found: list[dict[str, Sample]] = [{} for _ in measured]
    for (number, name), sample in samples.items():
        parts = measured[number].groups.parts
        found[number][name] = sample.beside(sample.mean_of(parts)) if parts else sample
    return [_with_derived(each) for each in found]


def _clusters_of(measured: Measured) -> int:
    return measured.clusters or int(measured.owners.max(initial=-1)) + 1


def _bound(measured: Measured, split: Split) -> dict[str, Figure]:
    """Return each metric's figure, with the baseline's and the other model's."""
    beside = {
        "prior_": measured.prior,
        "anatomy_": measured.anatomy,
        "shuffled_": measured.shuffled,
        "other_": measured.other,
    }
    sources = {"": measured.own} | beside
    return {
        prefix + metric: source[metric].bind(split)
        for metric in measured.own
        for prefix, source in sources.items()
        if source is not None
    }


def _with_derived(samples: dict[str, Sample]) -> dict[str, Sample]:
    """Return the samples, each baseline and each other model followed by the figure's difference from it."""
    found: dict[str, Sample] = {}
    for name, sample in samples.items():
        found[name] = sample
        for prefix, derived in DERIVED.items():
            if name.startswith(prefix):
                metric = name.removeprefix(prefix)
                found[derived + metric] = samples[metric] - sample
    return found


def _rounded(value: float, digits: int) -> float | None:
    return None if np.isnan(value) else round(float(value), digits)
