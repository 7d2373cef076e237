"""Words of findings with typing errors, and words that a hyphen divides at the end of a line.

A word that the lexicon does not have is read as a finding's word if one letter is missing, wrong or too
much, or if two letters are swapped. Long words may have two such errors. Double letters may be single and the
reverse. The first letter must be right.
Cues, devices and places are never corrected, except for long words of places ("bilateral"). English words
that are as near to a finding's word are left alone (words.toml).
"""

import re
from itertools import chain
from typing import Final

from medground.reports.lexicon import Lexicon
from medground.reports.tries import Trie, vocabulary
from medground.reports.wordlists import read_table, word_set

SHORTEST, TARGET, LONG = 4, 7, 11  # letters of a misspelled word, of a finding's, and of one with two errors
HEADS, TAILS = word_set("spelling", "heads"), word_set("spelling", "tails")
STATES: Final = word_set("spelling", "states")
SHORT: Final = word_set("spelling", "short")  # shorter words of findings that are common enough
MOST_KNOWN: Final = 50_000
GROUPS: Final = ("device", "tubesandlines", "technicalassessment")
ENGLISH: Final = word_set("spelling", "english")
ABBREVIATIONS: Final[dict[str, str]] = read_table("words.toml")["spelling"]["abbreviations"]
DIVIDED: Final = re.compile(r"[^\W\d]\xad|[^\W\d]-[ \t\r]*\n")
_DOUBLE: Final = re.compile(r"(.)\1+")
_HYPHEN: Final = re.compile(r"\xad\s*|-[ \t\r]*\n\s*")


class Speller:
    """Corrections of one lexicon's findings; each unknown word is looked up once."""

    def __init__(self, lexicon: Lexicon):
        self._vocabulary = vocabulary(lexicon.trie) | vocabulary(lexicon.places) | ENGLISH
        visible = {name for name, each in lexicon.findings.items() if each.group not in GROUPS}
        visible -= lexicon.devices
        targets = (word for word, node in lexicon.trie.items() if _names(node) & visible)
        self._targets: dict[str, list[tuple[str, set[str]]]] = {}
        for word in sorted({*targets, *STATES}):
            if word.isalpha() and (len(word) >= TARGET or word in SHORT):
                self._targets.setdefault(word[0], []).append((word, set(word)))
        self._doubled: dict[str, list[str]] = {}
        for word, _ in chain(*self._targets.values()):
            self._doubled.setdefault(_single(word), []).append(word)
        self._whole = frozenset(word for word, _ in chain(*self._targets.values()))
        self._known: dict[str, str] = {}

    def correct(self, words: list[str], starts: list[int], ends: list[int]) -> None:
        """Replace the misspelled words of findings in a list of words with these places."""
        glued = divided = False
        known_words = self._vocabulary
        for n, word in enumerate(words):
            if word in known_words:
                continue
            if word in ABBREVIATIONS:
                words[n] = ABBREVIATIONS[word]
            elif len(word) >= SHORTEST:
                known = self._known.get(word)
                words[n] = known = self._learn(word) if known is None else known
                glued = glued or " " in known
                divided = divided or (known == word and word.isalpha())
        if divided:
            self._unite(words, starts, ends)
        for n in range(len(words) - 1, -1, -1) if glued else ():
            if " " in words[n]:
                words[n : n + 1] = words[n].split()
                middle = ends[n] - len(words[n + 1])
                starts.insert(n + 1, middle)
                ends.insert(n, middle)

    def _unite(self, words: list[str], starts: list[int], ends: list[int]) -> None:
        """Join a word that is unknown with the next or the last, if they are a finding: "pneumo thorax"."""
        for n in range(len(words) - 2, -1, -1):
            if words[n] + words[n + 1] not in self._whole:
                continue
            if words[n] not in self._vocabulary or words[n + 1] not in self._vocabulary:
                words[n : n + 2] = [words[n] + words[n + 1]]
                del ends[n], starts[n + 1]

    def _learn(self, word: str) -> str:
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[word] = nearest = self._nearest(word)
        return nearest

    def _nearest(self, word: str) -> str:
        """Return the nearest word of a finding, or the word itself if none is near."""
        if word.endswith("(s)"):
            return word.removesuffix("(s)")
        if not word.isalpha():
            return word
        near: dict[int, list[str]] = {}
        letters = set(word)
        for target, wanted in self._targets.get(word[0], ()):
            limit = 1 if len(target) < LONG else 2
            if len(letters ^ wanted) > 2 * limit:
                continue  # an error changes at most two letters of the set
            if abs(len(target) - len(word)) <= limit and (far := distance(word, target, limit)) <= limit:
                near.setdefault(far, []).append(target)
        best = near[min(near)] if near else self._doubled.get(_single(word), [])
        return best[0] if best else self._glued(word)

    def _glued(self, word: str) -> str:
        """Return "effusion or" for "effusionor": a finding's word without the space after it."""
        for tail in TAILS:
            if (head := word.removesuffix(tail)) != word and head in self._whole:
                return f"{head} {tail}"
        for head in HEADS:
            if (tail := word.removeprefix(head)) != word and tail in self._whole:
                return f"{head} {tail}"
        return word

    def join(self, text: str, lists: tuple[list[str], list[int], list[int]], offset: int) -> None:
        """Join the words that a soft hyphen or the end of a line divides, if they are one word."""
        words, starts, ends = lists
        for n in range(len(words) - 2, -1, -1):
            gap = text[ends[n] - offset : starts[n + 1] - offset]
            whole = words[n] + words[n + 1]
            if _HYPHEN.fullmatch(gap) and (gap[0] == "\xad" or whole in self._vocabulary):
                words[n : n + 2] = [whole]
                ends[n : n + 2] = [ends[n + 1]]
                del starts[n + 1]


def _single(word: str) -> str:
    """Return a word with single letters for double ones."""
    return _DOUBLE.sub(r"\1", word)


def _names(node: Trie) -> set[str]:
    return {value for kind, value in node.get("", ()) if kind == "F"}


def distance(one: str, other: str, limit: int) -> int:
    """Return the number of letters to insert, remove, replace or swap; more than `limit` is limit + 1."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        before, last, row = row, before, [i]
        for j, wanted in enumerate(other, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                best = min(best, last[j - 2] + 1)
            row.append(best)
        if min(row) > limit:
            return limit + 1
    return row[-1]
