"""Triplets of a mention; their offset, and repetitions."""

from dataclasses import dataclass
from typing import Any

from medground.records import Existence, RegionSource, Span, Triplet
from medground.reports.mentions import Mention
from medground.reports.reading import Reading
from medground.reports.regions import Place


@dataclass(init=False, slots=True)
class Draft:
    """A triplet before it is a record: its spans count from the start of its sentence.

    It is not changed, and made in a fraction of the time of a `Triplet`.
    """

    region: str | None
    finding: str
    existence: Existence
    finding_span: Span
    region_span: Span | None
    cue: str | None
    cue_span: Span | None
    region_source: RegionSource
    rule: str
    severity: str | None
    change: str | None

    def __init__(
        self,
        region: str | None,
        finding: str,
        existence: Existence,
        finding_span: Span,
        region_span: Span | None,
        cue: str | None,
        cue_span: Span | None,
        region_source: RegionSource,
        rule: str,
        severity: str | None,
        change: str | None,
    ):
        self.region = region
        self.finding = finding
        self.existence = existence
        self.finding_span = finding_span
        self.region_span = region_span
        self.cue = cue
        self.cue_span = cue_span
        self.region_source = region_source
        self.rule = rule
        self.severity = severity
        self.change = change


def moved(draft: Draft, by: int) -> Triplet:
    """Return the triplet of a sentence that starts `by` code points after the start of the text."""
    finding, region, cue = draft.finding_span, draft.region_span, draft.cue_span
    return Triplet(
        region=draft.region,
        finding=draft.finding,
        existence=draft.existence,
        finding_span=(finding[0] + by, finding[1] + by),
        region_span=(region[0] + by, region[1] + by) if region else None,
        cue=draft.cue,
        cue_span=(cue[0] + by, cue[1] + by) if cue else None,
        region_source=draft.region_source,
        rule=draft.rule,
        severity=draft.severity,
        change=draft.change,
    )


def line_of(draft: Draft, by: int) -> dict[str, Any]:
    """Return the JSON object of the triplet that `moved` returns."""
    finding, region, cue = draft.finding_span, draft.region_span, draft.cue_span
    line: dict[str, Any] = {
        "region": draft.region,
        "finding": draft.finding,
        "existence": draft.existence,
        "finding_span": (finding[0] + by, finding[1] + by),
        "region_span": (region[0] + by, region[1] + by) if region else None,
        "cue": draft.cue,
        "cue_span": (cue[0] + by, cue[1] + by) if cue else None,
        "region_source": draft.region_source,
        "rule": draft.rule,
    }
    if draft.severity is not None:
        line["severity"] = draft.severity
    if draft.change is not None:
        line["change"] = draft.change
    return line


def without_doubles(drafts: list[Draft]) -> list[Draft]:
    """Return the first draft of each region, finding and existence."""
    if len(drafts) < 2:
        return drafts
    seen: dict[tuple[Any, ...], Draft] = {}
    for each in drafts:
        seen.setdefault((each.region, each.finding, each.existence), each)
    return list(seen.values())


def drafts_of(text: str, reading: Reading, mention: Mention) -> list[Draft]:
    """Return a draft for each region of a mention, or one without a region."""
    starts, ends, verdict = reading.starts, reading.ends, mention.verdict
    cue = verdict.cue
    cue_span = (starts[cue[0]], ends[cue[1] - 1]) if cue else None
    absent = verdict.existence == "absent"
    found: list[Draft] = []
    regions: list[str | None] = [*mention.regions] or [None]
    for region in regions:
        place = _place_of(mention, region)
        found.append(
            Draft(
                region,
                mention.finding.name,
                verdict.existence or "uncertain",
                (starts[mention.i], ends[mention.j - 1]),
                (starts[place.i], ends[place.j - 1]) if place else None,
                text[cue_span[0] : cue_span[1]] if cue_span else None,
                cue_span,
                mention.source,
                verdict.rule,
                None if absent else mention.severity,
                None if absent else mention.change,
            )
        )
    return found


def _place_of(mention: Mention, region: str | None) -> Place | None:
    if region is None:
        return None
    for place in mention.places:
        if region in place.regions(mention.finding) or mention.finding.region:
            return place
    return None
