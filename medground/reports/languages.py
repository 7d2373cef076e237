"""English reports and others, by common words.

A report is not English if it has more words of other languages than of English. Word lists are used instead
of a library for three reasons. Libraries compare letters, which fails for texts such as "No pneumothorax."
and for names of drugs. They take more time than the parser. A wrong word in a list can be found and removed.

Words that are also common in English reports are in no list of another language ("in", "is", "die", "a"). A
word with accents counts half, because names have them, too. One half is not enough for another language.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from medground.records import Report
from medground.reports.wordlists import read_table

_WORD = re.compile(r"pas de?\b|[^\W\d_]{2,}")
ENOUGH = 4_000  # code points of a text that decide
COMMON = (" the ", " and ", " of ", " are ", " with ", " without ", " within ", " size ", " clear", " seen")
LAST_LATIN = "\u024f"
NONE: frozenset[str] = frozenset()


@lru_cache(maxsize=1)
def _lists() -> tuple[frozenset[str], frozenset[str]]:
    """Return the words of English and of other languages."""
    table = read_table("languages.toml")
    return frozenset(table["english"]), frozenset().union(*table["others"].values())


def added_words(vocabulary: Iterable[str]) -> frozenset[str]:
    """Return the words of a parser's vocabulary that are not English: those of a user's lexicon."""
    others = _lists()[1]
    return frozenset(each for each in vocabulary if each in others or not each.isascii())


def is_english(text: str, added: frozenset[str] = NONE) -> bool:
    """Return False if the text has more words of other languages than of English.

    Words that a user's lexicon added count as English.
    """
    if text.isascii() and sum(each in text for each in COMMON) >= 3:
        return True  # most reports, at a tenth of the time
    english, others = _lists()
    words = set(_WORD.findall(text[:ENOUGH].lower()))
    found = float(len(words & others - added))
    if not text.isascii():
        found += sum(_weight(each) for each in words - others - added if not each.isascii())
    return found <= len(words & english) + len(words & added) + 0.5


def _weight(word: str) -> float:
    """Return 1 for a word in another script, otherwise 1/2: a name may have accents."""
    return 1.0 if min(word) > LAST_LATIN else 0.5


def is_foreign(report: Report, added: frozenset[str] = NONE) -> bool:
    """Return whether the parsed parts of a report are in another language."""
    cells = (report.text, report.findings, report.impression, report.last_paragraph)
    return not is_english(" ".join(filter(None, cells[:1] if report.text else cells[1:])), added)
