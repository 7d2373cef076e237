"""Changes of finished triplets: their offset, and repetitions."""

from typing import Any

from medground.records import Triplet


def moved(triplet: Triplet, by: int) -> Triplet:
    """Return the triplet with its spans counted from `by` code points earlier."""
    if by == 0:
        return triplet
    finding, region, cue = triplet.finding_span, triplet.region_span, triplet.cue_span
    return Triplet(
        region=triplet.region,
        finding=triplet.finding,
        existence=triplet.existence,
        finding_span=(finding[0] + by, finding[1] + by),
        region_span=(region[0] + by, region[1] + by) if region else None,
        cue=triplet.cue,
        cue_span=(cue[0] + by, cue[1] + by) if cue else None,
        region_source=triplet.region_source,
        rule=triplet.rule,
        severity=triplet.severity,
        change=triplet.change,
    )


def without_doubles(triplets: list[Triplet]) -> list[Triplet]:
    """Return the first triplet of each region, finding and existence."""
    seen: dict[tuple[Any, ...], Triplet] = {}
    for each in triplets:
        seen.setdefault((each.region, each.finding, each.existence), each)
    return list(seen.values())
