"""Sections of a report: findings, impression, history and others.

Headers are words at the start of a line or after a full stop, followed by a colon. Those on a line of their
own in capitals need none. Offsets count code points of the original text.
"""

import re
from dataclasses import dataclass

from medground.reports.wordlists import words

_NAMES: dict[str, str] = words()["sections"]
_HEADER = re.compile(
    r"(?:^|(?<=\n)|(?<=[.?!;]\ )|(?<=[.?!;]\ \ )|(?<=\.))[\ \t*\#_>•-]*+(?P<name>"
    + "|".join(f"(?P<{key}>{names})" for key, names in _NAMES.items())
    + r")[\ \t]*+(?:\([^)\n]{0,40}\)[\ \t]*+)?(?::|(?=\n)(?<=(?-i:[A-Z])))",
    re.IGNORECASE | re.VERBOSE,
)
_SPOKEN = re.compile(r"\b[a-z]{2,}\b")  # a title has few words in small letters
COUNTED = frozenset({"findings", "impression", "last_paragraph", "text"})
_PARAGRAPH = re.compile(r"\n[ \t\r]*\n")


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch [start, end) of the text.

    `name` is findings, impression, history, comparison, technique, other, text (no header at all) or
    last_paragraph (headers, but none of findings).
    """

    name: str
    start: int
    end: int


def split_sections(text: str) -> list[Section]:
    """Return the sections of a text in their order; text before the first header is `text`.

    If there are headers but none of findings or impression, the last paragraph without a header of its own
    counts as findings and is named `last_paragraph`.
    """
    headers = list(_HEADER.finditer(text)) if ":" in text or "\n" in text else []
    if not headers:
        return [Section("text", 0, len(text))]
    sections = []
    if text[: headers[0].start()].strip():
        spoken = len(_SPOKEN.findall(text, 0, headers[0].start())) >= 3
        sections.append(Section("text" if spoken else "other", 0, headers[0].start()))
    ends = [each.start() for each in headers[1:]] + [len(text)]
    sections += [Section(_kind(h), h.end(), end) for h, end in zip(headers, ends, strict=True)]
    if any(each.name in COUNTED and text[each.start : each.end].strip() for each in sections):
        return sections
    return _with_last_paragraph(text, sections)


def _kind(header: re.Match[str]) -> str:
    return next(key for key in _NAMES if header[key] is not None)


def _with_last_paragraph(text: str, sections: list[Section]) -> list[Section]:
    """Cut the last section at its first blank line; the text after it has no header."""
    last = sections[-1]
    gap = _PARAGRAPH.search(text, last.start, last.end)
    while gap and not text[last.start : gap.start()].strip():
        gap = _PARAGRAPH.search(text, gap.end(), last.end)
    if gap and text[gap.end() : last.end].strip():
        return [
            *sections[:-1],
            Section(last.name, last.start, gap.start()),
            Section("last_paragraph", gap.end(), last.end),
        ]
    if sections[0].name == "other" and sections[0].start == 0:
        return [Section("last_paragraph", 0, sections[0].end), *sections[1:]]
    return sections
