"""Breaks between the clauses of a sentence, which end the reach of cues, and cues that other words decide."""

from collections.abc import Iterable
from typing import Final

from medground.reports.joints import FINITE, STOPS, VERBS, after_joint, clause_joints
from medground.reports.wordlists import word_set

Cue = tuple[int, int, str]  # words [i, j) and the kind (lexicon.py)

MARKS: Final = frozenset(("(-)", "(+)"))
HARD: Final = frozenset(";:()?.-–—[]*|") | MARKS
OPENING: Final = frozenset("([")
STARTS: Final = word_set("existence", "starts")
GOES_ON: Final = word_set("existence", "goes_on")
SEEN: Final = word_set("predicates", "seen")
NEAR: Final = 4
DENIALS: Final = frozenset(("no", "without", "not"))
EVENTS: Final = word_set("existence", "events")
SOFT: Final = word_set("existence", "soft")
SIDES: Final = word_set("existence", "sides")
ARTICLES: Final = frozenset(("a", "an"))
CLOSERS: Final = frozenset(("or", "nor"))
LEADS_LIST: Final = word_set("existence", "leads_list")
OPENS_LIST: Final = frozenset("NUuLPD")
DATED: Final = frozenset(("of", "since", "in", "from", "st", "nd", "rd", "th"))


def find_breaks(
    words: list[str],
    cues: list[Cue],
    subjects: frozenset[int],
    states: frozenset[int],
    spots: Iterable[tuple[int, int]] = (),
) -> tuple[list[int], list[int]]:
    """Return (hard, soft) breaks, each a sorted list of word places.

    A hard break ends every cue's reach; one is between two clauses of the findings at `spots`. A soft one,
    before "mild", "right", "stable" and such in a list, or before one of the `states`, ends it too, unless a
    later "or" closes the list: "no edema, small effusion or pneumothorax". A colon after a cue opens its list
    and is no break: "negative for: a, b".
    """
    within = {n for i, j, _ in cues for n in range(i + 1, j)}  # the full stop of "vs."
    within |= _list_colons(words, cues)
    hard = [n for n, word in enumerate(words) if word in HARD and n not in within]
    doubts = {j for _, j, kind in cues if kind in "UuLP"}  # "perhaps there is"
    hard += [i for i, _, kind in cues if kind == "E" and not (i in doubts and words[i] == "there")]
    causes = [i for i, j, kind in cues if kind == "e" and words[j : j + 1] != [":"]]
    doubted = {i for i, _, kind in cues if kind in "UPL"}  # "no edema, and concern for pneumonia"
    denials = [i for i, _, kind in cues if kind == "N" and words[i] in DENIALS]
    denied = min(denials) if denials else len(words)
    soft = []
    last = len(words) - 1
    for n, word in enumerate(words):
        if n == last or word not in (",", "and"):
            continue
        follower = min(after_joint(words, n), last)
        if (
            words[follower] in STARTS
            or follower in subjects
            or (word == "and" and (words[follower] in GOES_ON or _is_event(words, follower)))
        ):
            hard.append(n)
        elif (
            _leads_to(words, follower, states)
            or follower in doubted
            or words[follower] in ARTICLES
            or words[follower][0].isdigit()  # "no effusion, 5 mm nodule"
            or (words[follower] in SOFT and not (word == "and" and _goes_on(words, follower, n, denied)))
            or (words[n - 1] in SEEN and words[n - 2] in VERBS)  # "no effusion is seen, scarring"
        ):
            soft.append(n)
    hard.sort()
    hard = sorted({*hard, *clause_joints(words, spots, hard)})
    return hard, sorted(causes + [n for n in soft if not _closed(words, n, hard)])


def _goes_on(words: list[str], n: int, joint: int, denied: int) -> bool:
    """Return whether a side at word n continues a list: "removal of the left and right tubes".

    It does not after "no": "no pneumothorax and bibasilar atelectasis".
    """
    return words[n] in SIDES and (denied > joint or words[joint - 1] in SIDES)


def _leads_to(words: list[str], n: int, states: frozenset[int]) -> bool:
    """Return whether one of the `states` is at word n, or after modifiers: "ill defined opacity"."""
    for place in range(n, min(n + NEAR, len(words))):
        if place in states:
            return True
        if words[place] in STOPS or words[place] in FINITE:
            return False
    return False


def _is_event(words: list[str], n: int) -> bool:
    """Return whether another change begins at word n: "resolution of edema and development of effusion"."""
    n += words[n] in ("interval", "new", "the")
    return words[n : n + 1] != [] and words[n] in EVENTS and words[n + 1 : n + 2] in (["of"], ["in"])


def in_aside(words: list[str], end: int, place: int) -> bool:
    """Return whether a bracket opens at word `end` and is open at `place`: "effusion (small, left)"."""
    return not OPENING.isdisjoint(words[end : end + 1]) and HARD.isdisjoint(words[end + 1 : place])


def _list_colons(words: list[str], cues: list[Cue]) -> set[int]:
    """Return the colons that open a cue's list: "no evidence of:", "negative for the following:"."""
    found = set()
    for i, j, kind in cues:
        if kind in OPENS_LIST or (kind in "MBVv" and (i == 0 or "following" in words[:i])):
            while j < len(words) and words[j] in LEADS_LIST:
                j += 1
            if words[j : j + 1] == [":"]:
                found.add(j)
    return found


def _closed(words: list[str], place: int, hard: list[int]) -> bool:
    """Return whether an "or" follows before the next hard break or "no", so that the list continues."""
    end = next((each for each in hard if each > place), len(words))
    end = next((n for n in range(place + 1, end) if words[n] == "no"), end)
    return any(word in CLOSERS for word in words[place + 1 : end])


def is_month(words: list[str], i: int, j: int) -> bool:
    """Return whether "may" is a month: "3 May", "May 3", "since May"."""
    return words[i:j] == ["may"] and (
        not DATED.isdisjoint(words[max(0, i - 1) : i])
        or any(each[0].isdigit() for each in (*words[max(0, i - 1) : i], *words[j : j + 1]))
    )


def colon_lists(words: list[str], cues: list[Cue], findings: list[int]) -> list[Cue]:
    """Return cues for the colons of a finding's differential: "opacity: atelectasis, edema or pneumonia"."""
    found: list[Cue] = []
    if ":" in words and "or" in words:
        colon = words.index(":")
        after = [i for i in findings if i > colon]
        denied = any(i > colon and kind in "NMB" for i, _, kind in cues)
        if 2 <= len(after) < len(findings) and "or" in words[after[0] : after[-1]] and not denied:
            found.append((colon, colon + 1, "D"))
    return found
