"""Sentences of a section, by their places in the text.

A sentence ends at a full stop, question or exclamation mark, a blank line, before a bullet or a number at a
line's start, and before a `Label:` that opens a line. A hard-wrapped line goes on. Full stops of decimals,
abbreviations (Dr., vs., mm., a.m., No. 2), initials and enumerators end nothing; "normal.No" does.
"""

import re
from collections.abc import Iterator

from medground.reports.wordlists import word_set

_ABBREVIATIONS = word_set("sentences", "abbreviations")
_UNITS = word_set("sentences", "units")
_END = re.compile(
    r"(?P<stop>[.!?]+[\"')\]]*(?=\s|$|[A-Z]))"
    r"|(?P<blank>\n[ \t\r]*\n\s*)"
    r"|(?P<item>\n[ \t]*(?=(?:[-*•·>]|\(?\d{1,2}[.)]|[a-z][.)])[ \t]+\S))"
    r"|(?P<label>\n[ \t]*(?=[A-Z][A-Za-z/& -]{1,38}:))"
    r"|(?P<number>(?<=[.;:\s])\d{1,2}[.)](?=\s*[A-Z]))"
)
_LAST_WORD = re.compile(r"(?:^|[\s(,;:/])([A-Za-z](?:[A-Za-z.]*[A-Za-z])?)$")
_CONTENT = re.compile(r"[A-Za-z]{2}")
_LEAD = re.compile(r"[\s*•·>#-]*(?:\(?\d{1,2}[.)](?!\d)[\s.,]*)?[\s*•·>#.,-]*")


def split_sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each sentence in text[start:end], without the space and enumerator before it.

    Stretches without a word of two letters are passed over.
    """
    begin = start
    for match in _END.finditer(text, start, end):
        if match["stop"] and not _ends(text, begin, match):
            continue
        cut = match.end() if match["stop"] else match.start()
        if span := _trimmed(text, begin, cut):
            yield span
        begin = match.end() if match["stop"] or match["number"] else match.start()
    if span := _trimmed(text, begin, end):
        yield span


def _ends(text: str, begin: int, match: re.Match[str]) -> bool:
    if match["stop"][0] != ".":
        return True
    if text[match.end() : match.end() + 1].isalpha() and text[match.start() - 1 : match.start()].isupper():
        return False  # U.S, P.M
    word = _LAST_WORD.search(text, max(begin, match.start() - 12), match.start())
    if word is None:
        return not re.search(
            r"(?:^|\n|[.:;]\s*)\s*\(?\d{1,2}$", text[max(begin - 1, match.start() - 6, 0) : match.start()]
        )
    if len(word[1]) == 1:
        return not word[1].isupper() or text[match.end() : match.end() + 2].strip()[:1].isupper() is False
    if word[1].lower() == "no":
        return not re.match(r"\s+\d", text[match.end() : match.end() + 4])
    if word[1].lower() in _UNITS:
        return not re.match(r"\s+[a-z0-9(]", text[match.end() : match.end() + 4])
    return word[1].lower() not in _ABBREVIATIONS


def _trimmed(text: str, start: int, end: int) -> tuple[int, int] | None:
    lead = _LEAD.match(text, start, end)
    start = lead.end() if lead else start
    while end > start and text[end - 1].isspace():
        end -= 1
    return (start, end) if _CONTENT.search(text, start, end) else None
