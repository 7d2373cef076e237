"""Predictions of several runs: each has its share of the labels and its seed.

The figures of a share are means over its seeds; a share below 1 is part of their name, as in `dice@10%`.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from medground.errors import BadRecord, MedgroundError
from medground.evaluation.stats.scoring import Measured

Run = tuple[float, int]  # share of the labels, and seed
Item = TypeVar("Item", bound=Hashable)
Own = TypeVar("Own")


class Predicted(Protocol):
    """A prediction that may have `share` and `seed` among its further keys."""

    @property
    def extra(self) -> dict[str, Any]:
        """The further keys."""


Found = TypeVar("Found", bound=Predicted)


def run_of(found: Predicted) -> Run:
    """Return the share and the seed of a prediction; 1 and 0 if it has none. Raises BadRecord."""
    share, seed = found.extra.get("share", 1.0), found.extra.get("seed", 0)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise BadRecord("expected a share above 0, at most 1", "share")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise BadRecord("expected a whole number", "seed")
    return float(share), seed


def by_run(
    found: Iterable[tuple[Item, Found]], scored: Sequence[Item], source: str, unit: str
) -> dict[Run, dict[Item, Found]]:
    """Return the predictions of each run by item, the largest share first.

    Raises MedgroundError for a run that lacks a scored item; `source` and `unit` are for its message.
    """
    runs: dict[Run, dict[Item, Found]] = {}
    for item, each in found:
        runs.setdefault(run_of(each), {})[item] = each
    for run in runs.values():
        if missing := sum(each not in run for each in scored):
            raise MedgroundError(f"{source}: no prediction for {missing} of {len(scored)} scored {unit}")
    if scored and not runs:
        raise MedgroundError(f"{source}: no prediction")
    return dict(sorted(runs.items(), reverse=True))


def of_shares(runs: Mapping[Run, Own]) -> dict[str, list[Own]]:
    """Return the runs of each share, by what the names of its metrics end with."""
    found: dict[str, list[Own]] = {}
    for (share, _), run in runs.items():
        found.setdefault(suffix(share), []).append(run)
    return found


def suffix(share: float) -> str:
    """Return what the name of a metric ends with: nothing for all labels, "@10%" for a tenth."""
    return "" if share == 1 else f"@{100 * share:g}%"


def matched(measured: Measured) -> Measured:
    """Return the figures that both models have; raise MedgroundError without any."""
    if measured.other is None:
        return measured
    both = [name for name in measured.own if name in measured.other]
    if not both:
        raise MedgroundError("the two predictions have no share of the labels in common")
    own, other = ({name: each[name] for name in both} for each in (measured.own, measured.other))
    return replace(measured, own=own, other=other)
