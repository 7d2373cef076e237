"""Existence of a finding: cues, their reach, and their precedence.

Words that only resemble a cue come first: they are longer matches, and have no role. Then follow a doubt
whose words contain a negation ("cannot exclude"), negation, doubt, and present. A negation reaches forward to
the next break or back to the last; so does a doubt. "likely" and "possible" reach forward if a finding
follows. "No new X" and "unlikely" mean absent, "nearly resolved" means present (and improved).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

from medground.records import Existence
from medground.reports.breaks import SIDES, SOFT, Cue, find_breaks
from medground.reports.joints import ADVERBS, HAVE, JOINS, VERBS, own_clause
from medground.reports.verdicts import PRESENT, Verdict, decide
from medground.reports.wordlists import word_set

MODIFIERS: Final = SOFT | word_set("existence", "modifiers")
EXPLAINING: Final = word_set("existence", "explaining")
LEADS_IN: Final = frozenset(("in", "given", "with"))
SEEN: Final = frozenset(("present", "seen", "there", "noted"))
AT_END: Final = (["out"],)
CLAUSE_ENDS: Final[tuple[list[str], ...]] = ([], ["."], [","], [";"], ["and"], ["with"], ["but"])
BEFORE: Final = frozenset("NBUuLPHRDG")
INCLUDES: Final = word_set("existence", "includes")
NONE: Final[frozenset[Any]] = frozenset()
NOW: Final = word_set("existence", "now")
NEITHER: Final = frozenset(("neither", "nor"))
INSIDE: Final = word_set("existence", "inside")
NOUNS: Final = frozenset(("removal", "explantation", "discontinuation"))
SETTINGS: Final = frozenset(("in", "given"))  # "in the appropriate clinical setting"
SINCE: Final = frozenset(("from", "since", "than"))
WITH: Final = (["with"], ["w", "/"])
NO_NOUN: Final = word_set("existence", "no_noun") | SIDES | word_set("ellipsis", "places")
PLAIN: Final = JOINS | {",", "no", "of"}
IF: Final = frozenset(("if", "whether"))
OPENERS: Final = ADVERBS | {",", "and", "but", "though"}
COMMAS: Final = frozenset(",;")
KNOWN: Final = (["the"], ["this"], ["these"], ["that"], ["those"])
REPRESENTS: Final = frozenset(("represents", "represent", "reflects", "reflect"))
SURE: Final = (
    word_set("predicates", "seen") | word_set("predicates", "gone") | {"real", "true", "there", "persists"}
)
RELATES: Final = frozenset(("of", "for"))
TRACES: Final = word_set("existence", "traces")
SOME: Final = frozenset(("one", "some", "most", "many", "several", "half"))
CHANGED: Final = word_set("existence", "changed")


class Scopes:
    """The cues of one sentence and how far each reaches."""

    def __init__(
        self,
        words: list[str],
        cues: list[Cue],
        spots: list[tuple[int, int]],
        subjects: frozenset[int] = NONE,
        states: frozenset[int] = NONE,
        halves: Sequence[tuple[int, int]] = (),
    ):
        self.words = words
        self.cues = [_as_strong(cue, words) for cue in cues if cue[2] not in "Ee"]
        self.spots = spots
        self.halves = halves
        if self.cues:
            places = [(i, j) for i, j, _ in self.cues]
            once = set(places)
            self.doubled = (
                {each for each in once if places.count(each) > 1} if len(once) < len(places) else NONE
            )
            hard, soft = find_breaks(words, cues, subjects, states, spots)
            hard = sorted({*hard, *(a - 1 for a, _ in halves if a), *(b for _, b in halves)})
            self.hard = hard
            causes = {i: j for i, j, kind in cues if kind == "e"}
            self.breaks = sorted({*hard, *soft})
            self.soft = {*soft} - causes.keys()
            self.sought = {i for i, j in causes.items() if words[j - 1] in ("of", "for")}
            self.doubt_breaks = [n for n in self.breaks if n not in causes or words[n - 1 : n] == [","]]
            self.withs = {i for i, j, kind in cues if kind == "E" and words[i:j] in WITH}
            self.reach = [self._reach(cue) for cue in self.cues]

    def reaches(self) -> list[tuple[Cue, tuple[int, int]]]:
        """Return each cue with the words [start, end) that it applies to."""
        return list(zip(self.cues, self.reach, strict=True)) if self.cues else []

    def _reach(self, cue: Cue) -> tuple[int, int]:
        """Return (first, last + 1) of the words that a cue applies to."""
        i, j, kind = cue
        words = self.words
        for half in self.halves:
            if half[0] < j <= half[1]:
                return half
        breaks = self.breaks if kind in "NMB" else self.doubt_breaks
        after = self._break_after(j, breaks)
        if words[i:j] in AT_END and words[j : j + 1] not in CLAUSE_ENDS:
            return i, i  # "the tube is out" is a removal, "out of the field" is none
        if kind == "B" and after <= j and any(b <= i for _, b, other in self.cues if other == "M"):
            return i, i  # "the edema has cleared but the effusions have not"
        if kind == "N" and self._denies_change(i, j, after):
            return i, i  # "none of the nodules has grown"
        if kind == "N":
            after = self._before_known(j, after)
        if kind == "N" and self._leads_in(i):
            after = next((n for n in range(j, after) if self.words[n] == ","), after)
        before = max((each + 1 for each in breaks if each < i), default=0)
        if kind == "A":
            return (i, i) if self._aside(before, i) else self._around(i, j, before, after)
        if kind == "D":
            return self._differential(j)
        if kind == "H" and words[j - 1] == "with" and self._is_now(i, j):
            return i, i  # "compared to the prior study with stable cardiomegaly"
        opened = j + (words[j : j + 1] in (["if"], ["whether"]))
        if kind in "UuVv" and words[opened - 1] in IF and (stated := self._attribute(opened, after)):
            return stated, after
        if kind == "u" and self._both(cue) and self._spot(before, i):
            return i, i
        if kind in "LP" and words[i] in VERBS and words[j : j + 1] in CLAUSE_ENDS and self._spot(before, i):
            return self._start_back(before, i, breaks), i  # "atelectasis is likely, but"
        if after in self.withs and kind in "UuLP" and words[j - 1] in RELATES and not self._spot(j, after):
            following = self._break_after(after + 1, self.doubt_breaks)
            if self._spot(after, following) and words[after + 1] not in NOW:
                return j, following  # "suspicious for a mucus plug with collapse"
        if kind in "UuHRG" or (kind in "LPB" and self._spot(j, after)):
            return j, after
        if kind == "N":
            return (j, j) if self._both(cue) and self._spot(before, i) else (j, after)
        return self._reach_back(cue, before, after, breaks)

    def _reach_back(self, cue: Cue, before: int, after: int, breaks: list[int]) -> tuple[int, int]:
        """Return the reach of a cue after its finding, between the breaks at `before` and `after`."""
        i, j, kind = cue
        words = self.words
        ahead = self._both(cue) and self._spot(j, after)
        if ahead and kind in "VvM" and (kind == "V" or not self._spot(before, i)):
            return i, i
        if kind == "M" and words[i:j] == [":", "no"] and self._opens_list(j, after):
            return j, after  # "lungs: clear; pleura: no effusion"
        if kind == "M" and words[i - 1 : i] and words[i - 1] in SOME and words[i - 2 : i - 1] == [","]:
            return i, i  # "of the two tubes, one has been removed"
        if kind == "M" and before - 1 in self.sought:
            return i, i  # "the cause of the bleeding was not found"
        if kind in "VvM" and self._is_inverted(i, j) and self._spot(j, after):
            return j, after
        if kind in "Vv" and (own := self._last_segment(before, i)) is not None:
            return own, i
        if kind in "VvM" and not self._spot(0, i):
            return j, after  # "no longer seen is the effusion", "it is difficult to exclude an effusion"
        if kind in "MBVv" and self._has_subject(before, i):
            return i, i  # "ascites, pancreas not seen"
        if kind == "v" and words[j - 1] == "from" and not self._spot(j, after):
            return i, i  # "cannot be separated from the first rib"
        if words[i] in NOUNS and not self._spot(before, i):
            return i, i  # "pneumothorax after removal of a drain"
        if kind == "V" and words[i] in SETTINGS and (own := self._doubted(before, i)) is not None:
            return own, i
        if kind in "LPB" and j < self._break_after(j, self.doubt_breaks) and self.words[j - 1] not in SEEN:
            return (
                i,
                i,
            )  # "effusion, possibly from pancreatitis", "pain was not relieved": the cue does not apply
        return self._start_back(before, i, breaks), self._repeated(j) or i

    def _start_back(self, before: int, i: int, breaks: list[int]) -> int:
        """Return the start of the reach of a cue at word i, back from the break at `before`."""
        words = self.words
        if self._spot(before, i):
            own = own_clause(self.words, self._spot, before, i)
            return before if own is None else own
        end = before - 1
        while ")" in words[end : end + 1] and "(" in words[:end]:
            end = len(words[:end]) - 1 - words[:end][::-1].index("(")  # an aside before the cue
        return max((each + 1 for each in breaks if each < end), default=0)

    def _doubted(self, before: int, i: int) -> int | None:
        """Return the end of the last doubt before its finding: "could be pneumonia in the right setting"."""
        ends = [b for a, b, kind in self.cues if before <= a and b <= i and kind in "UuLP"]
        return ends[-1] if ends and self._spot(ends[-1], i) else None

    def _is_now(self, i: int, j: int) -> bool:
        """Return whether "with" after an earlier image is about now: "unchanged from the last image with"."""
        return not SINCE.isdisjoint(self.words[max(0, i - 2) : i]) or (
            self.words[j : j + 1] != [] and self.words[j] in NOW
        )

    def _is_inverted(self, i: int, j: int) -> bool:
        """Return whether a predicate begins a clause, before its finding: "no longer seen is a mass"."""
        words = self.words
        begins = i == 0 or words[i - 1] in OPENERS or i - 1 in self.hard
        return begins and words[i] not in VERBS and not VERBS.isdisjoint(words[j : j + 1])

    def _attribute(self, j: int, after: int) -> int | None:
        """Return the verb after a known finding whose state is in doubt: "whether the effusion is loculated".

        A doubt about its presence or its end is one about the finding.
        """
        words = self.words
        if words[j : j + 1] not in KNOWN:
            return None
        end = next((end for start, end in sorted(self.spots) if j < start and end < after), None)
        if end is None or words[end] not in VERBS | REPRESENTS:
            return None
        return end if SURE.isdisjoint(words[end:after]) else None

    def _last_segment(self, before: int, i: int) -> int | None:
        """Return the word after the only comma, if this is no list: "opacity, edema not excluded"."""
        words = self.words[before:i]
        if words.count(",") != 1 or not JOINS.isdisjoint(words) or self.words[before - 1 : before] == [","]:
            return None
        after = before + words.index(",") + 1
        return after if self._spot(after, i) else None

    def _aside(self, before: int, i: int) -> bool:
        """Return whether only words for no finding are between the last comma and word i.

        Example: "hilar prominence, vascular versus nodal".
        """
        commas = [n for n in range(before, i - 1) if self.words[n] == ","]
        return bool(commas) and not self._spot(commas[-1], i)

    def _repeated(self, j: int) -> int | None:
        """Return the end of a clause that repeats a predicate: "is gone, as are the effusions"."""
        words = self.words[j : j + 4]
        n = next((n for n, word in enumerate(words) if word not in (",", "and")), 0)
        if words[n : n + 1] not in (["so"], ["as"]) or VERBS.isdisjoint(words[n + 1 : n + 2]):
            return None
        return next((each for each in self.hard if each > j + n), len(self.words))

    def _has_subject(self, before: int, i: int) -> bool:
        """Return whether a noun that is no finding is between the last comma and word i."""
        words = self.words[max(0, before - 1) : i]
        if not COMMAS.isdisjoint(words):
            start = i - next(n for n, word in enumerate(reversed(words)) if word in COMMAS)
        else:
            return False
        named = self.words[start + (self.words[start] in SIDES) : i]
        return bool(named) and named[0] not in NO_NOUN and not self._spot(start, i)

    def _differential(self, j: int) -> tuple[int, int]:
        """Return the list of a differential; it starts after the verb of "differential for X includes Y"."""
        if self.words[j - 1] in ("for", "of"):
            j = next((n + 1 for n in range(j, len(self.words)) if self.words[n] in INCLUDES), j)
        return j, next((n for n in self.hard if n >= j), len(self.words))

    def _break_after(self, j: int, breaks: list[int]) -> int:
        """Return the end of the reach from j; "left and trace right effusion" is one phrase to its noun."""
        for each in breaks:
            opens = each in self.soft and MODIFIERS.issuperset(self.words[j:each]) and self._noun(each)
            if each >= j and not opens:
                return each
        return len(self.words)

    def _leads_in(self, i: int) -> bool:
        """Return whether a comma ends the negated part: "in the absence of fever, ...", "despite no fever,
        ...".
        """
        before = self.words[max(0, i - 2) : i]
        return before[-1:] == ["despite"] or (before[-1:] == ["the"] and before[0] in LEADS_IN)

    def _before_known(self, j: int, after: int) -> int:
        """Return the end of a negation's reach from j.

        Examples: "no cavitation is seen within the mass", "no loculation of the effusion".
        """
        for n in range(j + 1, min(j + 3, after)):
            if self.words[n] in RELATES and self.words[n + 1 : n + 2] in KNOWN:
                inside = any(start < n < end for start, end in self.spots)
                return after if inside or not TRACES.isdisjoint(self.words[j:n]) else n
        if INSIDE.isdisjoint(self.words[j:after]):
            return after
        spots = sorted(start for start, end in self.spots if j <= start and end <= after)
        for earlier, later in pairwise(spots):
            for n in range(earlier, later - 1):
                gap = self.words[n:later]
                if gap[0] in INSIDE and gap[1] in ("the", "this") and PLAIN.isdisjoint(gap):
                    return n
        return after

    def _opens_list(self, j: int, after: int) -> bool:
        """Return whether a finding follows without a comma: "no effusion"."""
        return self.words[j : j + 1] != [","] and self._spot(j, after)

    def _denies_change(self, i: int, j: int, after: int) -> bool:
        """Return whether a cue denies only a change: "neither effusion has changed"."""
        words = self.words
        if not (words[i] in NEITHER or (words[i] == "none" and words[j : j + 1] == ["of"])):
            return False
        end = next((n for n in self.hard if n >= after), len(words))
        verbs = [n for n in range(j, end) if words[n] in HAVE]
        return any(not CHANGED.isdisjoint(words[n + 1 : n + 3]) for n in verbs)

    def _noun(self, place: int) -> bool:
        return self._spot(place, next((n for n in self.breaks if n > place), len(self.words)))

    def _around(self, i: int, j: int, before: int, after: int) -> tuple[int, int]:
        """Return the words from the alternative right before the cue to the end of its clause."""
        floor = [n + 1 for n in range(before, i) if self.words[n] in EXPLAINING]
        floor += [end for start, end, _ in self.cues if before <= start and end <= i]
        start = max([before, *floor])
        return (start if self._spot(start, i) else before), after

    def _both(self, cue: Cue) -> bool:
        """Return whether the same words are a cue in both directions, as "absent" is."""
        return cue[:2] in self.doubled

    def _spot(self, start: int, end: int) -> bool:
        return any(start <= i and j <= end for i, j in self.spots)

    def verdict(
        self,
        i: int,
        j: int,
        likely_as: Existence = "uncertain",
        anchor: int | None = None,
        passing: bool = False,
        event: bool = False,
    ) -> Verdict:
        """Return the verdict of the cues on the finding at words [i, j).

        `anchor` is the place of its state. A `passing` finding is over after "sequela of" and "status post".
        An `event` has happened if there is no further one; a finding of ours is then absent from the image.
        """
        if not self.cues:
            return PRESENT
        at = i if anchor is None else anchor
        found: dict[str, Cue] = {}
        for cue, (start, end) in zip(self.cues, self.reach, strict=True):
            opens = cue[0] < i < cue[1]  # its last words begin the finding: "no [focal airspace disease]"
            if not (start <= at < end or opens):
                continue
            if opens:
                opens = cue[2] in BEFORE and start < end
            elif cue[0] < j and cue[1] > i and not (anchor is not None and cue[1] <= at):
                continue  # inside the finding's own words
            if opens or not (event and "further" in self.words[cue[0] : cue[1]]):
                found[cue[2]] = cue
        if not passing:
            found.pop("G", None)
        if not found:
            return PRESENT
        return decide(found, likely_as)


def _as_strong(cue: Cue, words: list[str]) -> Cue:
    """Return a doubt that beats a negation for "unclear whether": "whether the effusion has resolved"."""
    i, j, kind = cue
    return (i, j, "u") if kind == "U" and words[j - 1] in IF else cue
