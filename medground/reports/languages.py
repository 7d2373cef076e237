"""English reports and others, by common words.

A report is not English if it has more words of other languages than of English. Nor is one of eight words
or more that has no common English word, and at most a quarter of whose words are in the parser's lexicon.

Word lists are used instead of a library for three reasons. Libraries compare letters, which fails for texts
such as "No pneumothorax." and for names of drugs. They take more time than the parser. A wrong word in a list
can be found and removed.

Words that are also common in English reports are in no list of another language ("in", "is", "die", "a"). A
word with accents counts half, because names have them, too. One half is not enough for another language.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from medground.records import Report
from medground.reports.wordlists import read_table, read_text

_WORD: Final = re.compile(r"pas de?\b|[-+]ve\b|[^\W\d_]{2,}")
ENOUGH: Final = 4_000  # code points of a text that decide
COMMON: Final = (
    " the ",
    " and ",
    " of ",
    " are ",
    " with ",
    " without ",
    " within ",
    " size ",
    " clear",
    " seen",
)
STRANGE: Final = 1 / 4  # share of known words; reports of Open-i have .75 and more
MANY: Final = 8  # distinct words: a shorter text may consist of typing errors and names
LAST_LATIN: Final = "\u024f"
NONE: Final[frozenset[str]] = frozenset()


@lru_cache(maxsize=1)
def _lists() -> tuple[frozenset[str], frozenset[str]]:
    """Return the words of English only, and those of other languages only."""
    table = read_table("languages.toml")
    return frozenset(table["english"]), frozenset().union(*table["others"].values())


@lru_cache(maxsize=1)
def _common() -> frozenset[str]:
    """Return common English words, also those that other languages have."""
    return _lists()[0] | set(read_table("languages.toml")["shared"])


@lru_cache(maxsize=1)
def _vocabulary() -> frozenset[str]:
    """Return common English words, and all words of the parser's lexicon files."""
    lines = "\n".join(map(read_text, ("findings.toml", "cues.toml", "states.toml", "regions.toml"))).split(
        "\n"
    )
    known = {word for line in lines if not line.startswith("#") for word in _WORD.findall(line.lower())}
    return frozenset(known) | _common()


def added_words(vocabulary: Iterable[str]) -> frozenset[str]:
    """Return the words of a parser's vocabulary that are not English: those of a user's lexicon."""
    others = _lists()[1]
    return frozenset(each for each in vocabulary if each in others or not each.isascii())


def is_english(text: str, added: frozenset[str] = NONE) -> bool:
    """Return False if the text has more words of other languages than of English.

    Words that a user's lexicon added count as English.
    """
    if text.isascii() and _has_common(text):
        return True  # most reports, at a tenth of the time
    english, others = _lists()
    words = set(_WORD.findall(text[:ENOUGH].lower()))
    found = float(len((words & others) - added))
    if not text.isascii():
        found += sum(_weight(each) for each in words - others - added if not each.isascii())
    return found <= len(words & english) + len(words & added) + 0.5 and not _is_strange(words, added)


def _has_common(text: str) -> bool:
    """Return whether three of the common strings of English are in the text."""
    found = 0
    for each in COMMON:
        found += each in text
        if found == 3:
            return True
    return False


def _is_strange(words: set[str], added: frozenset[str]) -> bool:
    """Return whether a text has no common word, and few that any lexicon has."""
    if len(words) < MANY or not _common().isdisjoint(words):
        return False
    return len(words & _vocabulary()) + len(words & added) <= STRANGE * len(words)


def _weight(word: str) -> float:
    """Return 1 for a word in another script, otherwise 1/2: a name may have accents."""
    return 1.0 if min(word) > LAST_LATIN else 0.5


def is_foreign(report: Report, added: frozenset[str] = NONE) -> bool:
    """Return whether the parsed parts of a report are in another language."""
    cells = (report.text, report.findings, report.impression, report.last_paragraph)
    return not is_english(" ".join(filter(None, cells[:1] if report.text else cells[1:])), added)
