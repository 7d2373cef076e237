"""The part of a sentence about one region, for sentences about several.

Spans count code points: of the report in the records, of the sentence's text inside this module.
"""

import re
from collections.abc import Iterable, Iterator

from medground.records import Sentence, Span, Triplet

_BREAK = re.compile(r"[,;]|\b(?:and|or|but|with|as well as|while)\b", re.IGNORECASE)
_JOINTS = re.compile(r"(?:\s|[,;/]|\b(?:and|or|as well as|versus)\b|\bvs\b\.?)*", re.IGNORECASE)


def part_for(region: str, sentence: Sentence) -> str:
    """Return the words about this region.

    They go from the first of its finding, place and cue to the last. They are extended to the next comma or
    conjunction before words of another region, and those words are removed. A word that both regions need
    ("bilateral", a shared finding) stays in both parts. Returns the whole sentence if no word of it names the
    region.
    """
    own = list(_spans(sentence, (each for each in sentence.triplets if each.region == region)))
    if not own:
        return sentence.text
    others = (each for each in sentence.triplets if each.region not in (region, None))
    foreign = [span for span in _spans(sentence, others) if not any(_overlap(span, each) for each in own)]
    first, last = min(start for start, _ in own), max(end for _, end in own)
    start = _after_break(sentence.text, max((e for _, e in foreign if e <= first), default=0), first)
    end = _before_break(sentence.text, last, min((s for s, _ in foreign if s >= last), default=None))
    inside = [span for span in foreign if first < span[0] and span[1] < last]
    return _without(sentence.text, (start, end), inside, own).strip(" ,;\n") or sentence.text


def _spans(sentence: Sentence, triplets: Iterable[Triplet]) -> Iterator[Span]:
    """Yield the spans of the triplets inside the sentence; an inherited region has its words elsewhere."""
    for triplet in triplets:
        for span in (triplet.finding_span, triplet.region_span, triplet.cue_span):
            if span is not None and sentence.start <= span[0] < span[1] <= sentence.end:
                yield span[0] - sentence.start, span[1] - sentence.start


def _overlap(a: Span, b: Span) -> bool:
    return a[0] < b[1] and b[0] < a[1]


def _after_break(text: str, start: int, end: int) -> int:
    """Return the start of our words in the gap after another region's words: after its last break."""
    if start == 0:
        return 0
    breaks = [each.end() for each in _BREAK.finditer(text, start, end)]
    return breaks[-1] if breaks else start


def _before_break(text: str, start: int, end: int | None) -> int:
    """Return the end of our words in the gap before another region's words: at its first break."""
    if end is None:
        return len(text)
    found = _BREAK.search(text, start, end)
    return found.start() if found else start


def _without(text: str, within: Span, holes: list[Span], own: list[Span]) -> str:
    """Return text[within] without the holes and the commas and conjunctions up to our next word."""
    kept, (at, end) = [], within
    for hole in sorted(holes):
        kept.append(text[at : hole[0]])
        until = min((first for first, _ in own if first >= hole[1]), default=end)
        joints = _JOINTS.match(text, hole[1], until)
        at = max(at, joints.end() if joints else hole[1])
    return "".join([*kept, text[at:end]])
