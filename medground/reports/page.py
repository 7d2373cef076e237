"""An HTML page of reports, with findings colored by existence, and regions and cues marked."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from medground.figures import pages
from medground.records import Report, Sentence, Triplet

ORDER = {"present": 0, "uncertain": 1, "absent": 2}


@dataclass(frozen=True, slots=True)
class Piece:
    """Text with one style: `kind` is present, uncertain, absent, region, cue or "" for plain text."""

    text: str
    kind: str
    title: str


def write_page(reports: Iterable[tuple[Report, list[Sentence]]], title: str) -> bytes:
    """Return a self-contained HTML page, in UTF-8; a report without sentences is marked as such."""
    shown = [_shown(report, sentences) for report, sentences in reports]
    counts: dict[str, int] = {}
    for report in shown:
        for name in report["findings"]:
            counts[name] = counts.get(name, 0) + 1
    choices = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return pages.render("medground.reports", "page.html", reports=shown, choices=choices, title=title)


def _shown(report: Report, sentences: list[Sentence]) -> dict[str, Any]:
    sections: list[dict[str, Any]] = []
    for sentence in sentences:
        if not sections or sections[-1]["name"] != sentence.section:
            sections.append({"name": sentence.section, "sentences": []})
        sections[-1]["sentences"].append({"pieces": _pieces(sentence), "triplets": sentence.triplets})
    findings = {each.finding for sentence in sentences for each in sentence.triplets}
    return {"study_id": report.study_id, "sections": sections, "findings": sorted(findings)}


def _pieces(sentence: Sentence) -> list[Piece]:
    """Return the sentence cut at the ends of marks; findings cover regions, and regions cover cues."""
    length = sentence.end - sentence.start
    look: list[tuple[str, str]] = [("", "")] * length
    for start, end, kind, title in _marks(sentence):
        for place in range(max(0, start - sentence.start), min(length, end - sentence.start)):
            under = look[place][0] if kind in ORDER and look[place][0] in ("region", "cue") else ""
            look[place] = (f"{under} {kind}".strip(), title)
    cuts = [0, *(n for n in range(1, length) if look[n] != look[n - 1]), length]
    return [Piece(sentence.text[a:b], *look[a]) for a, b in pairwise(cuts) if a < b]


def _marks(sentence: Sentence) -> list[tuple[int, int, str, str]]:
    """Return (start, end, kind, title), the topmost last: cues, regions, then findings from absent to
    present.
    """
    triplets = sorted(sentence.triplets, key=lambda each: -ORDER[each.existence])
    cues = [(*each.cue_span, "cue", each.rule) for each in triplets if each.cue_span]
    regions = [(*each.region_span, "region", each.region or "") for each in triplets if each.region_span]
    return [*cues, *regions, *((*each.finding_span, each.existence, _title(each)) for each in triplets)]


def _title(triplet: Triplet) -> str:
    return f"{triplet.finding}: {triplet.existence} ({triplet.rule})"
