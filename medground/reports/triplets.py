"""Triplets of a mention; their offset, and repetitions."""

from collections.abc import Iterator
from typing import Any

from medground.records import Triplet
from medground.reports.mentions import Mention
from medground.reports.reading import Reading
from medground.reports.regions import Place


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


def line_of(triplet: Triplet, by: int) -> dict[str, Any]:
    """Return the JSON object of a triplet whose spans count from `by` code points earlier."""
    finding, region, cue = triplet.finding_span, triplet.region_span, triplet.cue_span
    line: dict[str, Any] = {
        "region": triplet.region,
        "finding": triplet.finding,
        "existence": triplet.existence,
        "finding_span": (finding[0] + by, finding[1] + by),
        "region_span": (region[0] + by, region[1] + by) if region else None,
        "cue": triplet.cue,
        "cue_span": (cue[0] + by, cue[1] + by) if cue else None,
        "region_source": triplet.region_source,
        "rule": triplet.rule,
    }
    if triplet.severity is not None:
        line["severity"] = triplet.severity
    if triplet.change is not None:
        line["change"] = triplet.change
    return line


def without_doubles(triplets: list[Triplet]) -> list[Triplet]:
    """Return the first triplet of each region, finding and existence."""
    seen: dict[tuple[Any, ...], Triplet] = {}
    for each in triplets:
        seen.setdefault((each.region, each.finding, each.existence), each)
    return list(seen.values())


def triplets_of(text: str, reading: Reading, mention: Mention) -> Iterator[Triplet]:
    """Yield a triplet for each region of a mention, or one without a region."""
    starts, ends = reading.starts, reading.ends
    cue = mention.verdict.cue
    cue_span = (starts[cue[0]], ends[cue[1] - 1]) if cue else None
    regions: list[str | None] = [*mention.regions] or [None]
    for region in regions:
        place = _place_of(mention, region)
        yield Triplet(
            region=region,
            finding=mention.finding.name,
            existence=mention.verdict.existence or "uncertain",
            finding_span=(starts[mention.i], ends[mention.j - 1]),
            region_span=(starts[place.i], ends[place.j - 1]) if place else None,
            cue=text[cue_span[0] : cue_span[1]] if cue_span else None,
            cue_span=cue_span,
            region_source=mention.source,
            rule=mention.verdict.rule,
            severity=mention.severity if mention.verdict.existence != "absent" else None,
            change=mention.change if mention.verdict.existence != "absent" else None,
        )


def _place_of(mention: Mention, region: str | None) -> Place | None:
    if region is None:
        return None
    for place in mention.places:
        if region in place.regions(mention.finding) or mention.finding.region:
            return place
    return None
