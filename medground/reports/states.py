"""States of things that are always there: "the heart is enlarged", "normal heart size and mediastinum".

A state belongs to the subjects before it ("heart and mediastinum are normal") or, where it stands right
before one, to the subjects after it ("clear lungs", "blunting of the left costophrenic angle").
"""

from dataclasses import dataclass

from medground.reports.lexicon import Lexicon, Subject

OF = frozenset("of in within throughout involving at along about".split())
LIST = frozenset("and or , / & the".split())
REACH = 14


@dataclass(frozen=True, slots=True)
class Statement:
    """A subject's state: words [i, j) of both, where the state stands, and what it says."""

    i: int
    j: int
    at: int
    finding: str
    holds: bool  # False: the state denies the finding
    subject: Subject
    place: tuple[int, int]  # the subject's own words
    state: str
    said: tuple[int, int]  # the state's own words


def find_statements(
    lexicon: Lexicon,
    words: list[str],
    subjects: list[tuple[int, int, str]],
    states: list[tuple[int, int, frozenset[str]]],
    breaks: list[int],
) -> list[Statement]:
    """Each state with each subject that it belongs to; `breaks` are the words no statement goes across."""
    found: list[Statement] = []
    used: set[int] = set()
    floor = 0
    for i, j, names in states:
        start = max((each + 1 for each in breaks if each < i), default=0)
        end = next((each for each in breaks if each >= j), len(words))
        before = [
            s
            for s in subjects
            if max(start, floor) <= s[0] and s[1] <= i and s[0] not in used and i - s[1] <= REACH
        ]
        after = [s for s in subjects if j <= s[0] < end]
        owners = _owners(lexicon, words, i, j, names, before, after)
        for s in owners:
            statement = _statement(lexicon, s, i, j, names)
            if statement:
                found.append(statement)
                used.add(s[0])
        if owners:
            floor = max(j, floor)
    return found


def _owners(lexicon, words, i, j, names, before, after):
    fits = [s for s in after if _finding(lexicon.subjects[s[2]], names)]
    if (
        fits
        and _attributive(words, j, fits[0], lexicon.subjects[fits[0][2]].reach)
        and not _predicative(lexicon, words, i, names, before, fits[0])
    ):
        return _listed(words, fits)
    return [s for s in before if _finding(lexicon.subjects[s[2]], names)]


def _attributive(words: list[str], j: int, subject: tuple[int, int, str], reach: int) -> bool:
    gap = words[j : subject[0]]
    if len(gap) <= reach and not any(word in (",", "and", "is", "are") for word in gap):
        return True
    if len(gap) <= 3 and "and" in gap and "," not in gap and not {"the", "is", "are"} & set(gap):
        return True
    return len(gap) <= 9 and any(word in OF for word in gap) and not {",", "and"} & set(gap)


def _predicative(lexicon, words, i, names, before, following) -> bool:
    """Whether a subject before the state claims it although another stands after it."""
    own = [s for s in before if _finding(lexicon.subjects[s[2]], names)]
    if not own:
        return False
    gap = words[own[-1][1] : i]
    return bool({"is", "are", "appears", "appear", "remains", "remain", "was", "were"} & set(gap)) or not gap


def _listed(words: list[str], subjects: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """The first subject and those that follow it in a list."""
    found = subjects[:1]
    for s in subjects[1:]:
        if not all(word in LIST for word in words[found[-1][1] : s[0]]):
            break
        found.append(s)
    return found


def _finding(subject: Subject, names: frozenset[str]) -> tuple[str, str] | None:
    """(state, signed finding) that these names of states mean for a subject."""
    for name, finding in subject.states.items():
        if name in names:
            return name, finding
    return None


def _statement(lexicon, subject, i, j, names) -> Statement | None:
    own = lexicon.subjects[subject[2]]
    said = _finding(own, names)
    if said is None:
        return None
    state, finding = said
    a, b = min(i, subject[0]), max(j, subject[1])
    return Statement(a, b, i, finding[1:], finding[0] == "+", own, subject[:2], state, (i, j))
