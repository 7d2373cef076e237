"""Sections of a report: findings, impression, history and others.

Headers are words at the start of a line or after a full stop, followed by a colon. Those on a line of
their own in capitals or Markdown need none, and those at the start of a line may have a dash in its
place. Offsets count code points of the original text.
"""

import re
from dataclasses import dataclass
from typing import Final

from medground.reports.wordlists import words

_NAMES: Final[dict[str, str]] = words()["sections"]
_HEADER: Final = re.compile(
    r"(?:(?P<line>^|(?<=\n))|(?<=[.?!;]\ )|(?<=[.?!;]\ \ )|(?<=\.))"
    r"[\ \t>•-]*+(?P<mark>[\#*_]++[\ \t]*+)?(?P<name>"
    + "|".join(f"(?P<{key}>{names})" for key, names in _NAMES.items())
    + r""")(?:
      [\ \t]*+(?:\([^)\n]{0,40}\)[\ \t]*+)?:     # a colon
      |(?(mark)[\ \t*_:]*+(?=\n|$)|(?!))            # a Markdown heading on a line of its own
      |(?(line)[\ \t]++[-–—](?=[\ \t])|(?!))        # a dash, at the start of a line
      |[\ \t]*+(?:\([^)\n]{0,40}\)[\ \t]*+)?(?=\n)(?<=(?-i:[A-Z]))
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_SPOKEN: Final = re.compile(r"\b[a-z]{2,}\b")  # a title has few words in small letters
_ENDED: Final = re.compile(r"[A-Za-z]{3}\.(?=\s|$)")  # and no full stop
_CHEST: Final = re.compile(r"chest|cxr|thorax", re.IGNORECASE)
ONE_LINE: Final = frozenset(("technique", "comparison"))  # their text often ends with the line
CELLS: Final = ("findings", "impression")  # the columns of a table that parse-reports reads
COUNTED: Final = frozenset({"findings", "impression", "last_paragraph", "text"})
_PARAGRAPH: Final = re.compile(r"\n[ \t\r]*\n")


@dataclass(init=False, slots=True)
class Section:
    """A stretch [start, end) of the text.

    `name` is findings, impression, history, comparison, technique, other, text (no header at all) or
    last_paragraph (headers, but none of findings).
    """

    name: str
    start: int
    end: int
    skipped: bool  # it has text about another part of the body

    def __init__(self, name: str, start: int, end: int, skipped: bool = False):
        self.name = name
        self.start = start
        self.end = end
        self.skipped = skipped


def split_sections(text: str) -> list[Section]:
    """Return the sections of a text in their order; text before the first header is `text`.

    If there are headers but none of findings or impression, the last paragraph without a header of its own
    counts as findings and is named `last_paragraph`.
    """
    headers = list(_HEADER.finditer(text)) if ":" in text or "\n" in text else []
    found = _placed(text, headers)
    if not found:
        return [Section("text", 0, len(text))]
    sections = []
    first = found[0][1].start()
    if text[:first].strip():
        sections.append(Section("text" if _is_spoken(text, 0, first) else "other", 0, first))
    ends = [header.start() for _, header in found[1:]] + [len(text)]
    for (kind, header), end in zip(found, ends, strict=True):
        sections.append(_section(text, kind, header.end(), end))
    if any(each.name in COUNTED and text[each.start : each.end].strip() for each in sections):
        return sections
    return _with_last_paragraph(text, sections)


def _placed(text: str, headers: list[re.Match[str]]) -> list[tuple[str, re.Match[str]]]:
    """Return the headers with their kinds; headers inside a section are left out.

    Findings directly after a heading of another part of the body ("KNEE:\\nFINDINGS:") are of that part.
    """
    chest = any(_CHEST.search(each["name"]) for each in headers)
    found: list[tuple[str, re.Match[str]]] = []
    for header in headers:
        kind = _kind(header)
        before = found[-1][0] if found else ""
        if kind == "part" and before != "elsewhere":
            continue
        if kind == "abdomen":
            if not chest:
                continue
            kind = "elsewhere"
        elif kind == "part":
            kind = "findings"
        elif kind in COUNTED and before == "elsewhere" and not _CHEST.search(header["name"]):
            nothing_between = not text[found[-1][1].end() : header.start()].strip()
            kind = "elsewhere" if nothing_between else kind
        found.append((kind, header))
    return found


def _section(text: str, kind: str, start: int, end: int) -> Section:
    """Return the section of a header; a title without a text of its own is no section of findings."""
    if kind == "title":
        kind = "findings" if _is_spoken(text, start, end) or "." in text[start:end] else "other"
    if kind == "elsewhere":
        return Section("other", start, end, skipped=bool(text[start:end].strip()))
    return Section(kind, start, end)


def _is_spoken(text: str, start: int, end: int) -> bool:
    """Return whether a stretch has sentences, not only a title."""
    return len(_SPOKEN.findall(text, start, end)) >= 3 or bool(_ENDED.search(text, start, end))


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
    line = text.find("\n", last.start, last.end)
    if last.name in ONE_LINE and line > 0 and _is_spoken(text, line, last.end):
        return [
            *sections[:-1],
            Section(last.name, last.start, line),
            Section("last_paragraph", line, last.end),
        ]
    if sections[0].name == "other" and sections[0].start == 0:
        return [Section("last_paragraph", 0, sections[0].end), *sections[1:]]
    return sections
