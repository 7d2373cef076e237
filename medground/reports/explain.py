"""Explanation of a parsed sentence: every match, every cue with its reach, and the rule that decided."""

from collections.abc import Iterator

from medground.reports.breaks import Cue
from medground.reports.parser import Parser
from medground.reports.reading import Reading

KINDS = {
    "F": "finding",
    "S": "subject",
    "T": "state",
    "C": "change",
    "Q": "severity",
    "N": "negation, reaches forward",
    "M": "negation, reaches back",
    "B": "negation, forward or back",
    "U": "doubt, reaches forward",
    "V": "doubt, reaches back",
    "u": "strong doubt, reaches forward",
    "v": "strong doubt, reaches back",
    "L": "likely",
    "P": "possible",
    "A": "alternative",
    "H": "earlier state",
    "G": "over by now",
    "D": "differential",
    "X": "removal",
    "R": "advice",
    "E": "break",
    "e": "cause: a break for negations",
}


def explain(parser: Parser, sentence: str) -> Iterator[str]:
    """Yield lines of text: the matches in the sentence, then each triplet and its rule."""
    reading = parser.analyse(sentence)
    yield "matches"
    yield from _matches(sentence, reading)
    yield "reach of cues"
    yield from _reaches(sentence, reading)
    yield "triplets"
    triplets, _ = parser.read(sentence, 0, len(sentence), [])
    for each in triplets:
        start, end = each.finding_span
        why = f"rule {each.rule}" + (f', cue "{each.cue}"' if each.cue else "")
        extra = "".join(
            f", {key} {value}"
            for key, value in (("severity", each.severity), ("change", each.change))
            if value
        )
        region = f"{each.region or 'no region'} ({each.region_source})"
        yield f'  <{region}, {each.finding}, {each.existence}> from "{sentence[start:end]}": {why}{extra}'
    if not triplets:
        yield "  none"


def _words(sentence: str, reading: Reading, i: int, j: int) -> str:
    return sentence[reading.starts[i] : reading.ends[j - 1]] if i < j else ""


def _matches(sentence: str, reading: Reading) -> Iterator[str]:
    found = [
        (i, j, KINDS.get(kind, kind), "/".join(sorted(value)) if isinstance(value, frozenset) else str(value))
        for kind, matches in reading.tags.items()
        for i, j, value in matches
    ]
    found += [
        (
            place.i,
            place.j,
            "place",
            ", ".join(place.names or [f"{side or '?'} {level or ''}".strip() for side, level in place.pairs]),
        )
        for place in reading.places
    ]
    for i, j, kind, value in sorted(found):
        yield f'  "{_words(sentence, reading, i, j)}": {kind}: {value}'
    if not found:
        yield "  none"


def _reaches(sentence: str, reading: Reading) -> Iterator[str]:
    reaches: list[tuple[Cue, tuple[int, int]]] = reading.scopes.reaches() if reading.scopes else []
    for (i, j, kind), (start, end) in reaches:
        words = _words(sentence, reading, start, end)
        yield f'  "{_words(sentence, reading, i, j)}" ({KINDS[kind]}): ' + (
            f'"{words}"' if words else "nothing"
        )
    if not reaches:
        yield "  no cue"
