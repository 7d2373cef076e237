"""From what a protocol measured to Score records: values, intervals, gains over the prior, differences.

Beside each metric X, where there is a prior or another model to compare with:
prior_X       the image-free prior's figure             gain_X        X - prior_X
other_X       the other model's figure                  difference_X  X - other_X, with its p-value as `p`
All come from the same draws of the patients of the whole test set, so the intervals of gains and differences
are paired.

`n` counts the scored items of the group, for `macro` those of all its parts. Values are rounded to 10 digits,
bounds to 6: beyond that they would differ between machines.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medground.evaluation.stats import bootstrap
from medground.evaluation.stats.average_precision import Ranked
from medground.evaluation.stats.bootstrap import Figure, Sample, Split
from medground.evaluation.stats.figures import Ratio
from medground.evaluation.stats.groups import Groups
from medground.records import Anatomy, Phrase, Score

log = logging.getLogger(__name__)
Figures = Mapping[str, Ratio | Ranked]
BESIDE = ("prior_", "gain_", "other_", "difference_")  # what may stand beside a metric


@dataclass(frozen=True, slots=True)
class Measured:
    """What a protocol measured on N items: figures of the model, and of the prior and another model if given.

    owners: (N,) the cluster of each item; counts: scored items in each group; clusters: how many there are in
    the whole test set, where some may have no item here (None: those of `owners` are all).
    """

    protocol: str
    groups: Groups
    owners: NDArray[np.int64]
    counts: Sequence[int]
    own: Figures
    prior: Figures | None = None
    other: Figures | None = None
    clusters: int | None = None
    keeps_empty: bool = True  # whether a figure without a value is a score


@dataclass(frozen=True, slots=True)
class Resampling:
    """How intervals are made, and what each Score says of its origin in keys of its own."""

    draws: int = 10_000
    seed: int = 0
    origin: dict[str, Any] = field(default_factory=dict)


def clusters(items: Sequence[Phrase | Anatomy]) -> NDArray[np.int64]:
    """(N,) number of the patient of each item; an item without subject_id stands with its image."""
    numbers: dict[tuple[str, str], int] = {}
    keys = [("subject", i.subject_id) if i.subject_id else ("image", i.image_id) for i in items]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def warn_of_lone_images(items: Sequence[Phrase | Anatomy]) -> None:
    """Say how many images have no subject_id: they stand for patients of their own."""
    if lone := len({each.image_id for each in items if not each.subject_id}):
        log.warning("no subject_id for %d images: each counts as a patient of its own in the intervals", lone)


def score(measured: Measured, how: Resampling) -> Iterator[Score]:
    """Yield the scores, group by group in the order of the groups, macro second; none without an item."""
    yield from score_all([measured], how)[0]


def score_all(measured: Sequence[Measured], how: Resampling) -> list[list[Score]]:
    """The scores of each of these measurements of one test set, all from the same draws of its clusters."""
    all_samples = _samples(measured, how)
    return [list(_scores(one, samples, how)) for one, samples in zip(measured, all_samples, strict=True)]


def _scores(measured: Measured, samples: dict[str, Sample], how: Resampling) -> Iterator[Score]:
    for g, group in _rows(measured) if samples else ():
        for metric, sample in samples.items():
            if np.isnan(sample.value[g]) and not measured.keeps_empty:
                continue
            bounds, p = None, None
            if group.patients > 1:
                bounds = bootstrap.interval(sample.draws[:, g])
                p = bootstrap.p_value(sample.draws[:, g]) if metric.startswith("difference_") else None
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


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    n: int
    patients: int  # with one alone there is no interval


def _rows(measured: Measured) -> list[tuple[int, _Row]]:
    """Each group with its number among the samples' groups; macro, the last there, is shown second."""
    groups = measured.groups
    patients = [len(np.unique(measured.owners[mask])) for mask in groups.masks]
    rows = [_Row(*row) for row in zip(groups.names, measured.counts, patients, strict=True)]
    numbered = list(enumerate(rows))
    if groups.parts:
        total = sum(measured.counts[g] for g in groups.parts)
        macro = _Row("macro", total, max(patients[g] for g in groups.parts))
        numbered.insert(1, (len(rows), macro))
    return numbered


def _samples(measured: Sequence[Measured], how: Resampling) -> list[dict[str, Sample]]:
    """For each measurement name -> sample, the model's metrics first; {} where there is no item."""
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
    """Each metric's figure, and beside it the prior's and the other model's."""
    sources = {"": measured.own, "prior_": measured.prior, "other_": measured.other}
    return {
        prefix + metric: source[metric].bind(split)
        for metric in measured.own
        for prefix, source in sources.items()
        if source is not None
    }


def _with_derived(samples: dict[str, Sample]) -> dict[str, Sample]:
    """The samples, each prior followed by the gain over it and each other model by the difference from it."""
    found: dict[str, Sample] = {}
    for name, sample in samples.items():
        found[name] = sample
        for prefix, derived in (("prior_", "gain_"), ("other_", "difference_")):
            if name.startswith(prefix):
                metric = name.removeprefix(prefix)
                found[derived + metric] = samples[metric] - sample
    return found


def _rounded(value: float, digits: int) -> float | None:
    return None if np.isnan(value) else round(float(value), digits)
