"""States of structures that are always present: "the heart is enlarged", "normal heart size and mediastinum".

A state belongs to the subjects before it ("heart and mediastinum are normal"). Directly before a subject, it
belongs to the subjects after it ("clear lungs", "blunting of the left costophrenic angle").
"""

from dataclasses import dataclass, replace
from typing import Final

from medground.reports.lexicon import Lexicon, Subject
from medground.reports.wordlists import word_set

SIDES: Final = frozenset(("right", "left"))
BEFORE_NOUN: Final = SIDES | {"the", "both"}
FACES: Final = frozenset(("lateral", "posterior", "anterior", "medial"))
APART: Final = frozenset(("below", "above", "beneath", "over", "behind", "near"))  # something else is there
BEFORE_SIDE: Final = frozenset(("on", "in", "of", "than", "to", "at", "from", "with")) | APART
JOINTS: Final = frozenset((",", ";", "and", "but", "while", "whereas", "with"))
OF_SIDE: Final = word_set("states", "of_side")
OF: Final = word_set("states", "of")
LIST: Final = word_set("states", "list")
JOINED: Final = word_set("states", "joined")
COPULAS: Final = word_set("states", "copulas")
VERBS: Final = COPULAS | {"has", "have"}
NOWHERE: Final[frozenset[int]] = frozenset()
EDGES: Final = JOINTS | COPULAS
FORMER: Final = frozenset(("previously", "formerly", "once", "earlier"))
REACH: Final = 14
NOT_WITHIN: Final = (
    frozenset((",", "and", "is", "are", "no", "without")),
    frozenset((",", "is", "are", "with", "no")),
)
Spot = tuple[int, int, str]  # words [i, j) and the subject's name


@dataclass(init=False, slots=True)
class Statement:
    """A subject's state: words [i, j) of both, the state's place, and its meaning."""

    i: int
    j: int
    at: int
    finding: str
    holds: bool  # False: the state denies the finding
    subject: Subject
    place: tuple[int, int]  # the subject's own words
    state: str
    said: tuple[int, int]  # the state's own words
    apart: bool  # about one side of the subject; a statement about both is about the other

    def __init__(
        self,
        i: int,
        j: int,
        at: int,
        finding: str,
        holds: bool,
        subject: Subject,
        place: tuple[int, int],
        state: str,
        said: tuple[int, int],
        apart: bool = False,
    ):
        self.i = i
        self.j = j
        self.at = at
        self.finding = finding
        self.holds = holds
        self.subject = subject
        self.place = place
        self.state = state
        self.said = said
        self.apart = apart


def find_statements(
    lexicon: Lexicon,
    words: list[str],
    subjects: list[tuple[int, int, str]],
    states: list[tuple[int, int, frozenset[str]]],
    breaks: list[int],
    exceptions: list[int],
    findings: list[int],
    ends: frozenset[int] = frozenset(),
) -> list[Statement]:
    """Return each state with each subject that it belongs to; no statement crosses a word in `breaks`.

    After one of the `exceptions`, a state without a subject belongs to the one before, but not to its place:
    "both angles are sharp except for blunting on the left". `findings` are the first words of
    findings, `ends` the words after them: the state of "opacity along the aorta" is not the aorta's.
    """
    found: list[Statement] = []
    used: set[int] = set()
    known: set[tuple[tuple[int, int], str]] = set()
    floor = last = 0
    owners: list[Spot] = []
    for i, j, names in states:
        start = max((each + 1 for each in breaks if each < i), default=0)
        end = next((each for each in breaks if each >= j), len(words))
        joined = owners and last <= i and all(word in JOINED for word in words[last:i])
        if not joined or not any(_finding(lexicon.subjects[s[2]], names) for s in owners):
            near = [
                s for s in subjects if max(start, floor, i - REACH) <= s[0] and s[1] <= i and s[0] not in used
            ]
            near = [s for s in near if not _in_exception(words, s, i, exceptions)]
            if words[j - 1] == "cleared":  # not "disease of the left base has cleared"
                near = [s for s in near if not any(n < i for n in findings)]
            near = _without_asides(lexicon, words, near, findings, ends)
            after = [s for s in subjects if j <= s[0] < end]
            owners = _owners(lexicon, words, i, j, names, near, after, findings)
        side = _side_before(words, i, subjects)
        said = [] if side is None else _exception(lexicon, subjects, i, j, names, side)
        if said:
            found += said
            continue
        excepted = next((n for n in reversed(exceptions) if n < i), None)
        if excepted is not None and not any(excepted < s[0] for s in subjects):
            said = _exception(lexicon, subjects, i, j, names)
            found += said
            continue
        said = [each for s in owners if (each := _statement(lexicon, s, i, j, names))]
        said = [each for each in said if (each.place, each.finding) not in known]
        known |= {(each.place, each.finding) for each in said}
        found += said
        used |= {each.place[0] for each in said}
        if owners:
            floor = last = j
    return found


def without_former(
    words: list[str], states: list[tuple[int, int, frozenset[str]]]
) -> list[tuple[int, int, frozenset[str]]]:
    """Return the states without those that were before another one: "previously enlarged, is now normal"."""
    if FORMER.isdisjoint(words):
        return states
    last = states[-1][0]
    return [
        each for each in states if each[0] == last or FORMER.isdisjoint(words[max(0, each[0] - 2) : each[0]])
    ]


def _in_exception(words: list[str], subject: Spot, i: int, exceptions: list[int]) -> bool:
    """Return whether a structure is in an exception before the state: "other than low volumes, normal"."""
    return any(n < subject[0] for n in exceptions) and "," in words[subject[1] : i]


def _without_asides(
    lexicon: Lexicon, words: list[str], near: list[Spot], findings: list[int], ends: frozenset[int]
) -> list[Spot]:
    """Return the structures without asides; a nodule is no part of the finding whose name ends with it."""
    parts = [NOWHERE if lexicon.subjects[s[2]].reach > 2 else ends for s in near]
    return [s for n, s in enumerate(near) if not _is_aside(words, s, near[n + 1 : n + 2], findings, parts[n])]


def _is_aside(
    words: list[str], subject: Spot, following: list[Spot], findings: list[int], ends: frozenset[int]
) -> bool:
    """Return whether a structure is only a place, or a finding comes between it and the next.

    "edema at the left base the heart is enlarged", "the right lung has edema, left lung clear".
    """
    if not following:
        return False
    start, end = subject[1], following[0][0]
    if any(start <= n < end for n in findings):
        return True
    if start in ends and not LIST.issuperset(words[start:end]):
        return True  # "low lung volumes accentuate the heart size, which is normal"
    n = subject[0] - 1
    while n >= 0 and words[n] in BEFORE_NOUN:
        n -= 1
    if n + 1 in ends:
        return True  # "atelectasis right base, left base clear"
    gap = words[start:end]
    if n >= 0 and words[n] in APART:
        return True  # "the tube is above the left hemidiaphragm, the heart is enlarged"
    if n >= 0 and words[n] in BEFORE_SIDE and (not VERBS.isdisjoint(gap) or any(f < n for f in findings)):
        return True  # "pneumonia in the right lung has resolved, and the lungs are clear"
    listed = gap == [","] or not {"and", "or"}.isdisjoint(gap) or not BEFORE_SIDE.isdisjoint(gap)
    return n >= 0 and words[n] in BEFORE_SIDE and not listed


def _side_before(words: list[str], i: int, subjects: list[Spot]) -> int | None:
    """Return the side that a state belongs to without a noun: "the left [one] being mildly elevated"."""
    n = i - 1
    while n >= 0 and words[n] in OF_SIDE:
        n -= 1
    if not (0 < n < i - 1 and words[n] in SIDES):
        return None
    last = max((s[1] for s in subjects if s[1] <= i), default=0)
    before = words[n - 2] if words[n - 1] == "the" and n > 1 else words[n - 1]
    if last > n or before in BEFORE_SIDE:
        return None
    return n if not EDGES.isdisjoint(words[last:n]) else None


def _exception(
    lexicon: Lexicon, subjects: list[Spot], i: int, j: int, names: frozenset[str], side: int | None = None
) -> list[Statement]:
    """Return the statement of an exception, or of a side, about the last subject before it."""
    before = [s for s in subjects if s[1] <= i and _finding(lexicon.subjects[s[2]], names)]
    if side is not None:
        before = [s for s in before if len(lexicon.subjects[s[2]].region) != 1]
    return [
        replace(each, i=i if side is None else side, place=(i, j), apart=side is not None)
        for s in before[-1:]
        if (each := _statement(lexicon, s, i, j, names)) and (each.holds or side is not None)
    ]


def _owners(
    lexicon: Lexicon,
    words: list[str],
    i: int,
    j: int,
    names: frozenset[str],
    before: list[Spot],
    after: list[Spot],
    findings: list[int],
) -> list[Spot]:
    """Return the subjects of a state on words [i, j)."""
    fits = [s for s in after if _finding(lexicon.subjects[s[2]], names)]
    if (
        fits
        and _attributive(words, j, fits[0], lexicon.subjects[fits[0][2]].reach, findings)
        and not _predicative(lexicon, words, i, names, before)
    ):
        return _listed(words, fits)
    return [s for s in before if _finding(lexicon.subjects[s[2]], names)]


def _attributive(
    words: list[str], j: int, subject: tuple[int, int, str], reach: int, findings: list[int]
) -> bool:
    gap = words[j : subject[0]]
    if len(gap) <= reach and not NOT_WITHIN[reach > 2] & set(gap):
        return True
    if len(gap) <= 3 and "and" in gap and "," not in gap and not {"the", "is", "are"} & set(gap):
        return True
    if any(j <= n < subject[0] for n in findings):
        return False  # "increased calcification of the aorta"
    if any(word in SIDES or word in FACES for word in gap):
        gap = [word for word in gap if word != "and"]  # "of the lateral and posterior angles"
    return len(gap) <= 9 and any(word in OF for word in gap) and not {",", "and"} & set(gap)


def _predicative(
    lexicon: Lexicon, words: list[str], i: int, names: frozenset[str], before: list[Spot]
) -> bool:
    """Return whether a subject before the state claims it although another follows it."""
    own = [s for s in before if _finding(lexicon.subjects[s[2]], names)]
    if not own:
        return False
    gap = words[own[-1][1] : i]
    return not COPULAS.isdisjoint(gap) or not gap


def _listed(words: list[str], subjects: list[Spot]) -> list[Spot]:
    """Return the first subject and those that follow it in a list."""
    found = subjects[:1]
    for s in subjects[1:]:
        if not all(word in LIST for word in words[found[-1][1] : s[0]]):
            break
        found.append(s)
    return found


def _finding(subject: Subject, names: frozenset[str]) -> tuple[str, str] | None:
    """Return the (state, signed finding) of a subject for these names of states."""
    for name, finding in subject.states.items():
        if name in names:
            return name, finding
    return None


def _statement(lexicon: Lexicon, subject: Spot, i: int, j: int, names: frozenset[str]) -> Statement | None:
    own = lexicon.subjects[subject[2]]
    said = _finding(own, names)
    if said is None:
        return None
    state, finding = said
    a, b = min(i, subject[0]), max(j, subject[1])
    return Statement(a, b, i, finding[1:], finding[0] == "+", own, subject[:2], state, (i, j))
