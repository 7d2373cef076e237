"""Sentences that run on without a full stop: "no pneumothorax the heart is enlarged".

A clause is complete after a finding, a predicate state ("heart is enlarged") or a word such as "seen". If
no conjunction follows, a new clause begins before "there" or "no", and before a structure with a predicate
of its own. After a negation it also begins before a finding with a modifier ("mild edema").
"""

from typing import Any, Final

from medground.reports.breaks import CLOSERS, HARD, SOFT
from medground.reports.lexicon import Lexicon
from medground.reports.wordlists import word_set

Tags = dict[str, list[Any]]
OPENERS: Final = word_set("run_ons", "openers")
SEEN: Final = word_set("run_ons", "seen")
PERSISTS: Final = word_set("run_ons", "persists")
COPULAS: Final = word_set("states", "copulas")
IN_PLACE: Final = word_set("run_ons", "in_place")
VERBS: Final = COPULAS | {"has", "have"}
FINITE: Final = VERBS | {"been"}
SINGULAR: Final = frozenset(("is", "has", "was"))
DOUBTS: Final = frozenset(("cannot", "may", "might", "could"))
ENDED: Final = frozenset(("removed", "resolved", "cleared", "absent"))
TOWARDS: Final = frozenset(("in", "at", "on", "of", "the"))
SIDES: Final = word_set("ellipsis", "sides")
PLACE_NOUNS: Final = word_set("run_ons", "place_nouns")
ON_SIDE: Final = (["right"], ["left"])
LUNG_PARTS: Final = (["base"], ["apex"], ["zone"])
POSITIONS: Final = frozenset(("place", "situ", "position"))
PLACES: Final = TOWARDS | SIDES | word_set("ellipsis", "places")
ENDERS: Final = word_set("run_ons", "enders")
BETWEEN: Final = word_set("run_ons", "between")
MODIFIERS: Final = word_set("run_ons", "modifiers") | SOFT
TRAILING: Final = word_set("run_ons", "trailing")
NEAR: Final = 8
DOUBTED: Final = frozenset("UuLP")  # kinds of cues
GENERAL: Final = frozenset(("guarded", "normal", "clear", "whole"))


def find_run_ons(words: list[str], tags: Tags, lexicon: Lexicon) -> list[int]:
    """Return the words that begin a clause without a separator before them, in order."""
    clauses = _Clauses(words, tags, lexicon)
    negations = {i for i, _, _ in tags.get("N", ()) if words[i] != "removed"}
    doubted = bool(negations) or not DOUBTED.isdisjoint(tags)
    found = clauses.split_names()
    for end in sorted(clauses.ends(bool(negations))):
        n = end
        while n < len(words) and words[n] in TRAILING:
            n += 1
        if n >= len(words) or n in found:
            continue
        if words[n] in OPENERS:
            begins = n == end
        elif n in negations and words[n] == "no":
            begins = any(n < i <= n + NEAR for i in clauses.findings)
        else:
            begins = clauses.begins(n, doubted) or clauses.is_next(end, n, bool(negations))
        if begins:
            found.append(n)
    return sorted(found)


class _Clauses:
    """The findings, structures and states of a sentence, by their first words."""

    def __init__(self, words: list[str], tags: Tags, lexicon: Lexicon):
        self.words, self.devices = words, lexicon.devices
        self.said = not COPULAS.isdisjoint(words)
        self.predicates: set[int] = set()  # ends of states and participles that are predicates
        self.placed: set[int] = set()  # ends of places after findings
        self.changes = [(i, j) for i, j, _ in tags.get("C", ())]
        self.findings = {i: (j, name) for i, j, name in tags.get("F", ())}
        self.states: dict[int, tuple[int, frozenset[str]]] = {
            i: (j, names) for i, j, names in tags.get("T", ())
        }
        self.structures = {
            i: (j, lexicon.subjects[name].states.keys())
            for i, j, name in tags.get("S", ())
            if i not in self.findings
        }
        self.trie = lexicon.trie

    def is_next(self, end: int, n: int, negated: bool) -> bool:
        """Return whether a finding begins the next clause at word n, after a clause that ends at `end`.

        It does after a predicate ("the heart is not enlarged stable scoliosis"), and if it has one of its own
        and is not in a list of absent findings ("mild cardiomegaly edema has resolved").
        """
        k = self._noun(n)
        if k not in self.findings:
            return False
        if end in self.predicates:
            return True
        after, name = self.findings[k]
        if n == end and (name in self.devices or name == "device tip") and self._ends_device(end):
            return False  # "central venous line catheter"
        said = self.words[after : after + 1]
        if not DOUBTS.isdisjoint(said):
            return True
        if negated:
            return n == end and self._after_place(after) > after and CLOSERS.isdisjoint(self.words[after:])
        if not (SINGULAR | ENDED).isdisjoint(said):
            return True
        return end in self.placed and (self.words[n] in SOFT or self._after_place(after) > after)

    def _ends_device(self, end: int) -> bool:
        """Return whether the name of a device ends before word `end`."""
        return any(j == end and name in self.devices for j, name in self.findings.values())

    def _after_place(self, j: int) -> int:
        """Return the end of a place with a side right after word j: "in the left base"."""
        if j >= len(self.words) or self.words[j] not in PLACES:
            return j
        if self.words[j : j + 2] == ["on", "the"] and self.words[j + 2 : j + 3] in ON_SIDE:
            return j + 3
        end = j
        while end < len(self.words) and self.words[end] in PLACES and self.words[end] not in PLACE_NOUNS:
            end += 1
        end += self.words[end : end + 1] == ["lung"] and self.words[end + 1 : end + 2] in LUNG_PARTS
        place = self.words[j : end + 1]
        return end + 1 if place[-1:] and place[-1] in PLACE_NOUNS and not SIDES.isdisjoint(place) else j

    def split_names(self) -> list[int]:
        """Return the second words of names that two clauses share: "heart is enlarged / aorta is normal"."""
        found: list[int] = []
        if not self.said or not self.structures:
            return found
        after = dict(self.structures.values())
        for i, (j, _) in self.findings.items():
            start = i
            while start and (self.words[start - 1] in BETWEEN or self.words[start - 1] == "not"):
                start -= 1
            known = after.get(start)
            if j - i < 2 or start == i or known is None or not _state(self.trie, self.words[i]) & known:
                continue
            if j in self.states or not VERBS.isdisjoint(self.words[j : j + 1]):
                found.append(i + 1)
        return found

    def _noun(self, n: int) -> int:
        """Return the place of the structure or the finding whose modifiers begin at word n."""
        while (
            n < len(self.words)
            and n not in self.findings
            and n not in self.structures
            and self.words[n] in MODIFIERS
        ):
            n += 1
        return n

    def ends(self, negated: bool) -> set[int]:
        """Return the places after findings, predicate states and words such as "seen" after them.

        With a negation they are also after "process": "no acute process".
        """
        ends = {j for j, _ in self.findings.values()}
        if self.said:
            said = [j for i, (j, _) in self.findings.items() if not COPULAS.isdisjoint(self.words[i:j])]
            self.predicates.update(said)
        if ends and not POSITIONS.isdisjoint(self.words):
            at = [n for n in range(min(ends), len(self.words)) if self.words[n] in POSITIONS]
            self.predicates.update([n + 1 for n in at if "in" in self.words[max(0, n - 2) : n]])
            ends |= self.predicates
        self.placed = {k for j in ends if (k := self._after_place(j)) > j}
        ends |= self.placed
        for i in self.structures:
            state = self._predicate(i)
            if state is not None:
                ends.add(state)
                self.predicates.add(state)
        if negated:
            ends |= {n + 1 for n, word in enumerate(self.words) if word in ENDERS}
        ends.update([j for i, j in self.changes if i and self.words[i - 1] in VERBS])
        if ends:
            first = min(ends)
            seen = [n + 1 for n in range(first, len(self.words)) if self.words[n] in SEEN]
            ends.update(seen)
            self.predicates.update([n for n in seen if n > 1 and self.words[n - 2] in FINITE])
        return ends

    def _predicate(self, i: int) -> int | None:
        """Return the end of the state that follows the structure at word i: "heart size is normal"."""
        end, known = self.structures[i]
        while end < len(self.words) and (self.words[end] in BETWEEN or self.words[end] == "not"):
            end += 1
        j, names = self.states.get(end, (0, frozenset()))
        return j if not names.isdisjoint(known) or not names.isdisjoint(GENERAL) else None

    def _found_after(self, end: int) -> bool:
        """Return whether a finding is the predicate: "the bones are osteopenic"."""
        start = end
        while end < len(self.words) and self.words[end] in BETWEEN:
            end += 1
        return end > start and end in self.findings

    def begins(self, n: int, negated: bool) -> bool:
        """Return whether the words from n on are a structure with its predicate, or a new finding."""
        words, k = self.words, self._noun(n)
        if k in self.structures:
            if self._predicate(k) is not None or self._found_after(self.structures[k][0]):
                return True
            k = self.structures[k][0]  # "left lower lobe granuloma"
        if k not in self.findings:
            return False
        end, name = self.findings[k]
        if not COPULAS.isdisjoint(words[k:end]):
            return True  # "costophrenic angle is blunted"
        if words[n] == "the":
            return not BETWEEN.isdisjoint(words[end : end + 2])
        if not negated:
            return False
        if name in self.devices:
            before = next((other for j, other in self.findings.values() if j == n), None)
            return (
                before is not None
                and before not in self.devices
                and not (BETWEEN | IN_PLACE).isdisjoint(words[end : end + 3])
            )
        rest = words[n : next((m for m in range(n, len(words)) if words[m] in HARD), len(words))]
        verb, after = words[end : end + 1], words[end + 1 : end + 3]
        if not VERBS.isdisjoint(verb) and not PERSISTS.isdisjoint(after):
            return True
        return words[n] in SOFT and CLOSERS.isdisjoint(rest)


def _state(trie: dict[str, Any], word: str) -> frozenset[str]:
    """Return the names of the states that a word is: "enlarged"."""
    roles = trie.get(word, {}).get("", ())
    return next((names for kind, names in roles if kind == "T"), frozenset())


def with_stops(lists: tuple[list[str], list[int], list[int]], places: list[int]) -> None:
    """Insert a full stop without a length before each of these words."""
    words, starts, ends = lists
    for n in reversed(places):
        words.insert(n, ".")
        starts.insert(n, ends[n - 1])
        ends.insert(n, ends[n - 1])
