"""Sentences of a section, by their places in the text.

A sentence ends at a full stop, question or exclamation mark, or a blank line. It also ends before a bullet or
a number at a line's start, and before a `Label:` that opens a line. It continues over a hard line break. Full
stops of decimals, abbreviations (Dr., vs., mm., a.m., No. 2), initials and enumerators end nothing;
"normal.No" does. In a numbered list ("1. ... 2. ...") the next number ends a sentence at any place.
"""

import re
from typing import Final

from medground.reports.wordlists import word_set

_ABBREVIATIONS: Final = word_set("sentences", "abbreviations")
_UNITS: Final = word_set("sentences", "units")
_SHORT_FORMS: Final = _ABBREVIATIONS | _UNITS | {"no"}  # a full stop after them may end nothing
_MARK: Final = re.compile(r"[.!?\n]")
_STOP: Final = re.compile(r"[.!?]{1,20}[\"')\]]*(?=\s|$|[A-Z])")
_BULLETS: Final = "*•·>◦●▪○■‣∙⁃□✓–—"  # bullets other than the hyphen
_BREAK: Final = re.compile(
    r"\n(?:[ \t\r]*\n\s*"  # a blank line
    rf"|[ \t]*(?=(?:[-{_BULLETS}]|\(?\d{{1,2}}[.)]|[a-z][.)])[ \t]+\S)"  # a bullet
    r"|[ \t]*(?=[A-Z][A-Za-z/& -]{1,38}:))"  # a label
)
_LAST_WORD: Final = re.compile(r"(?:^|[\s(,;:/])([A-Za-z](?:[A-Za-z.]*[A-Za-z])?)$")
_NUMBER: Final = re.compile(r"(?:^|[\s(])(\d{1,2})$")
LONGEST: Final = 2_000  # code points; no writer's sentence is so long
PIECE: Final = 160  # code points of the pieces of longer stretches: short ones are cached, and need less time
_CLAUSE: Final = re.compile(
    r" (?=(?:there|no|without|the (?:heart|lungs|aorta)|heart|lungs) )", re.IGNORECASE
)
_BEFORE_QUESTION: Final = frozenset(" ,;:(/\t\n")
_ANSWER: Final = re.compile(
    r"\s*(?:no|none|nil|yes|absent|present|negative|positive|small|trace|mild|moderate|large|minimal|tiny|right|left|bilateral)\s*[.,]",
    re.IGNORECASE,
)
_QUESTION: Final = re.compile(r"[ \t]*(?:[a-z]|[A-Z]{2})")
_CONTENT: Final = re.compile(r"[A-Za-z]{2}")
_LEAD: Final = re.compile(
    rf"(?:[\s{_BULLETS}#]|-(?!ve\b))*(?:\(?\d{{1,2}}[.)](?!\d)[\s.,]*)?(?:[\s{_BULLETS}#.,]|-(?!ve\b))*"
)


def split_sentences(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Return (start, end) of each sentence in text[start:end], without the space and enumerator before it.

    Stretches without a word of two letters are passed over.
    """
    found: list[tuple[int, int]] = []
    begin, counted = start, 0
    for mark in _MARK.finditer(text, start, end):
        place = mark.start()
        if place < begin:
            continue
        if text[place] == "\n":
            if not (space := _BREAK.match(text, place, end)):
                continue
            cut, following = place, space.end()
        elif _is_plain_stop(text, begin, place, end):
            cut = following = place + 1
        elif (stop := _STOP.match(text, place, end)) is None or (
            text[place] == "?" and _questions(text, begin, place)
        ):
            continue
        elif text[place] == "." and (number := _enumerator(text, begin, place, counted)) is not None:
            counted = int(text[number:place])
            cut = following = number
        elif text[place] == "." and not _ends(text, begin, place, stop.end()):
            continue
        else:
            cut = following = stop.end()
        _add_pieces(found, text, begin, cut)
        begin = following
    _add_pieces(found, text, begin, end)
    return found


def _is_plain_stop(text: str, begin: int, place: int, end: int) -> bool:
    """Return whether the mark at `place` surely ends a sentence: a full stop after a usual word, and a space.

    This decides most marks without a pattern; False decides nothing.
    """
    if text[place] != "." or (place + 1 < end and text[place + 1] != " "):
        return False
    word = text[text.rfind(" ", begin, place) + 1 or begin : place]
    return len(word) > 1 and word.isalpha() and word.isascii() and word.lower() not in _SHORT_FORMS


def _questions(text: str, begin: int, place: int) -> bool:
    """Return whether a question mark ends no sentence: "no effusion, ? pneumonia", "effusion? No."."""
    if _ANSWER.match(text, place + 1):
        return True
    before = text[max(begin, place - 99) : place]
    if not _CONTENT.search(before):
        return True
    if before[-1:] not in _BEFORE_QUESTION:
        return False
    return before.rstrip()[-1:] in _BEFORE_QUESTION or bool(_QUESTION.match(text, place + 1))


def _add_pieces(found: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    """Add the stretch without its lead-in, or nothing; in pieces if it is too long for a sentence."""
    size = LONGEST if end - start <= LONGEST else PIECE
    while start < end:
        cut = end if end - start <= size else _cut(text, start, start + size)
        if span := _trimmed(text, start, cut):
            found.append(span)
        start = cut


def _cut(text: str, start: int, end: int) -> int:
    """Return where to cut a stretch before `end`: at the last clause of its second half, or at a space."""
    clauses = [each.start() for each in _CLAUSE.finditer(text, (start + end) // 2, end)]
    cut = clauses[-1] if clauses else text.rfind(" ", start, end)
    return cut if cut > start else end


def _enumerator(text: str, begin: int, place: int, counted: int) -> int | None:
    """Return the start of the number before a full stop, if it is the next of a numbered list."""
    if not text[place - 1 : place].isdigit():
        return None
    number = _NUMBER.search(text, max(begin, place - 4), place)
    if number is None or int(number[1]) != counted + 1:
        return None
    first = number.start(1)
    opens = counted or text[first - 1 : first] == "\n" or not _CONTENT.search(text, begin, first)
    return first if opens else None


def _ends(text: str, begin: int, place: int, after: int) -> bool:
    """Return whether the full stop at `place` ends a sentence; `after` is the start of the following text."""
    if text[after : after + 1].isalpha() and text[place - 1 : place].isupper():
        return False  # U.S, P.M
    before = text[max(begin, place - 1) : place]
    word = _LAST_WORD.search(text, max(begin, place - 12), place) if before.isalpha() else None
    if word is None:
        lead = text[max(begin, place - 99) : place].strip()
        return not (text[place - 1 : place].isdigit() and _NUMBER.match(lead))
    if len(word[1]) == 1:
        return not word[1].isupper() or not text[after : after + 2].strip()[:1].isupper()
    last = word[1].lower()
    if last == "no":
        return not re.match(r"\s+\d", text[after : after + 4])
    if last in _UNITS:
        return not re.match(r"\s+[a-z0-9(]", text[after : after + 4])
    return last not in _ABBREVIATIONS


def _trimmed(text: str, start: int, end: int) -> tuple[int, int] | None:
    """Return the stretch without the lead-in before it and the space after it; None if it has no word."""
    if text[start] == " ":
        start += 1
    if not text[start : min(start + 1, end)].isalpha():
        lead = _LEAD.match(text, start, end)
        start = lead.end() if lead else start
    while end > start and text[end - 1].isspace():
        end -= 1
    first = text[start : min(start + 2, end)]
    has_word = (len(first) == 2 and first.isalpha() and first.isascii()) or _CONTENT.search(text, start, end)
    return (start, end) if has_word else None
