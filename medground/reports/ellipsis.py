"""Halves of a sentence without a noun: "effusion on the right, none on the left".

A half names a side and a predicate, and repeats the finding of the clause before it. In "moderate left and
trace right effusions" the finding follows. A half has words of closed lists only (words.toml). Its cues
apply to the half only, and no other cue applies to it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from medground.reports.mentions import Mention
from medground.reports.regions import Place
from medground.reports.verdicts import PRESENT
from medground.reports.wordlists import word_set

Tags = dict[str, list[Any]]
JOINTS: Final = word_set("ellipsis", "joints")
SIDES: Final = word_set("ellipsis", "sides")
PREDICATES: Final = word_set("ellipsis", "predicates")
ELSEWHERE: Final = word_set("ellipsis", "elsewhere")
EXCEPTIONS: Final = word_set("ellipsis", "exceptions")
PRONOUNS: Final = word_set("ellipsis", "pronouns")
NORMAL: Final = word_set("ellipsis", "normal")
BARE: Final = SIDES | NORMAL | PREDICATES | word_set("ellipsis", "fillers")
CLOSED: Final = BARE | word_set("ellipsis", "places") | ELSEWHERE
OWNERS: Final = SIDES | ELSEWHERE | PRONOUNS  # a half has one of them
EDGES: Final = JOINTS | EXCEPTIONS
COMPARED: Final = frozenset(("larger", "greater", "worse", "more", "bigger"))
GREATER: Final = frozenset(("greater", "more"))
# "not" and a side; words of changes that are none of a finding that was there; and of its end.
DENIALS: Final = SIDES | word_set("ellipsis", "places") | {"not", "on", "in", "at", "the", "bases"}
APPEARED: Final = frozenset(("new", "newly", "developed", "developing"))
GONE: Final = frozenset(("resolved", "cleared", "disappeared", "gone", "vanished", "removed"))
ARTICLES: Final = frozenset(("the", "on", "in", "at"))
POLARITY: Final = frozenset(("none", "not", "no", "nil")) | COMPARED


@dataclass(init=False, slots=True)
class Half:
    """Words [start, end) of a half; `side` is the place of its side or pronoun, None for "none elsewhere"."""

    start: int
    end: int
    side: int | None
    forward: bool  # its finding follows

    def __init__(self, start: int, end: int, side: int | None, forward: bool = False):
        self.start = start
        self.end = end
        self.side = side
        self.forward = forward

    def words(self, words: list[str]) -> list[str]:
        """Return the words of the half, without those that would hide a place: "not on the right"."""
        return ["_" if each in POLARITY else each for each in words[self.start : self.end]]

    def denies_change(self, words: list[str], tags: Tags, after: int) -> bool:
        """Return whether "not on the left" denies a change: "has decreased on the right but not on the left".

        `after` is the end of the finding.
        """
        if not DENIALS.issuperset(words[self.start : self.end]):
            return False
        changes = [i for i, j, _ in tags.get("C", ()) if words[i] not in APPEARED]
        changes += [i for i, j, _ in tags.get("M", ()) if not GONE.isdisjoint(words[i:j])]
        return any(after <= i < self.start for i in changes)


def find_halves(words: list[str], tags: Tags) -> list[Half]:
    """Return the halves of a sentence, in order."""
    if OWNERS.isdisjoint(words) or EDGES.isdisjoint(words):
        return []
    structures = {n for i, j, _ in tags.get("S", ()) for n in range(i, j)}
    nouns = {n for i, j, _ in tags.get("F", ()) for n in range(i, j)}
    nouns |= {n for i, j, name in tags.get("S", ()) if name != "lungs" for n in range(i, j)}
    first = min((i for i, _, _ in [*tags.get("F", ()), *tags.get("T", ())]), default=len(words))
    segments = list(_segments(words))
    found = []
    for n, (a, b) in enumerate(segments):
        inside = set(words[a:b])
        if not inside or inside - CLOSED or not nouns.isdisjoint(range(a, b)):
            continue
        if inside & NORMAL:
            if structures.isdisjoint(range(a, b)):
                found.append(Half(a, b, None))  # "right side clear"
            continue
        excepted = a > 0 and not EXCEPTIONS.isdisjoint(words[max(0, a - 2) : a])
        exists = "there" in inside and not PRONOUNS.isdisjoint(inside)  # "but there is one on the left"
        if not (inside & PREDICATES or excepted or exists):
            continue
        sides = [m for m in range(a, b) if words[m] in SIDES]
        if len({words[m][0] for m in sides}) > 1:
            continue  # "left worse than right"
        side = next(iter(sides or [m for m in range(a, b) if words[m] in PRONOUNS]), None)
        forward = side is not None and _finding_follows(words, nouns, segments[n + 1 : n + 2], inside)
        if forward and first < a and not _is_attributive(words, a, b):
            forward = False
        if first < a and not forward and (side is not None or inside & ELSEWHERE):
            found.append(Half(a, b, side))
        elif forward:
            found.append(Half(a, b, side, forward=True))
    return found


def _segments(words: list[str]) -> list[tuple[int, int]]:
    """Return the [start, end) between joints."""
    edges = [n for n, word in enumerate(words) if word in EDGES or word in ("for", ":")]
    ends = [*edges, len(words) - 1 if words[-1:] == ["."] else len(words)]
    return [(a, b) for a, b in zip([0, *(n + 1 for n in edges)], ends, strict=True) if a < b]


def _finding_follows(
    words: list[str], nouns: set[int], rest: list[tuple[int, int]], inside: set[str]
) -> bool:
    """Return whether the next segment is "trace right effusions": a side, a predicate and the noun."""
    if not rest or inside - BARE:
        return False
    noun = next((n for n in range(*rest[0]) if n in nouns), rest[0][0])
    before = set(words[rest[0][0] : noun])
    return bool(before & SIDES and before & PREDICATES) and not before - BARE


def _is_attributive(words: list[str], a: int, b: int) -> bool:
    """Return whether a side before "and" ends words [a, b): "small left and moderate right effusions"."""
    end = b - 1 - (words[b - 1] == "sided")
    return words[b : b + 1] == ["and"] and end > a and words[end] in SIDES and words[end - 1] not in ARTICLES


def add_halves(
    halves: list[Half],
    words: list[str],
    tags: Tags,
    mentions: list[Mention],
    decide: Callable[[Half, Mention], None],
) -> list[Mention]:
    """Return the mentions with those of the halves; `decide` gives a half's mention existence and places."""
    for half in halves:
        whole = _whole_of(half, mentions)
        if whole is None or half.side is None:
            continue
        if len(halves) == 1 and not (whole.regions or COMPARED.isdisjoint(words[half.start : half.end])):
            _spread(whole, words, half)
            continue
        mention = Mention(whole.i, whole.j, whole.finding, PRESENT)
        decide(half, mention)
        if all(level is None for place in mention.places for _, level in place.pairs):
            mention.regions = _levels_of(whole, mention.regions)
        compared = len(whole.regions) > 1  # "worse on the left" of both sides
        for kind in ("Q", "C"):
            for i, _, value in tags.get(kind, ()):
                if half.start <= i < half.end and not (kind == "C" and compared and words[i] in COMPARED):
                    mention.modify(kind, value)
        if mention.verdict.existence == whole.verdict.existence:
            mention.change = mention.change or whole.change
        if mention.verdict.existence and (mention.regions or words[half.side] in PRONOUNS):
            mentions = [*without_regions(mentions, mention), mention]
    return mentions


def _spread(whole: Mention, words: list[str], half: Half) -> None:
    """Give both sides to a finding that is greater on one: "small effusions, larger on the left"."""
    said = words[half.start : half.end]
    many = words[whole.j - 1].endswith("s") and not words[whole.j - 1].endswith(("is", "us"))
    if whole.verdict.existence == "present" and (many or not GREATER.isdisjoint(said)):
        levels = [pair[1] for place in whole.places for pair in place.pairs] or [None]
        place = Place(whole.i, whole.j, [("both", level) for level in levels], [])
        whole.places, whole.source = [place], "explicit"
        whole.regions = place.regions(whole.finding)


def _levels_of(whole: Mention, sides: list[str]) -> list[str]:
    """Return the regions of a finding on these sides: "at both bases, worse on the left" is the left base."""
    named = {each.split()[0] for each in sides}
    return [each for each in whole.regions if each.split()[0] in named] or sides


def set_apart(mentions: list[Mention], exceptions: list[int]) -> list[Mention]:
    """Return the mentions without the regions that an exception names: "clear except for the left"."""
    for special in list(mentions):  # a copy: a compiled loop would take items of the new list
        if any(n < special.i for n in exceptions):
            before = [each for each in mentions if each.j < special.i]
            kept = without_regions(before, special)
            mentions = [each for each in mentions if each not in before or each in kept]
    return mentions


def _whole_of(half: Half, mentions: list[Mention]) -> Mention | None:
    """Return the mention whose finding a half repeats: the next after it, or the last before it.

    A finding with a side precedes others: "effusion on the right without shift, none on the left".
    """
    if half.forward:
        return next((each for each in mentions if each.i >= half.end), None)
    before = sorted((each for each in mentions if each.j <= half.start), key=lambda each: -each.j)
    sided = (each for each in before if any(side for place in each.places for side, _ in place.pairs))
    return next(sided, next(iter(before), None))


def without_regions(mentions: list[Mention], special: Mention) -> list[Mention]:
    """Return the mentions without the regions that a more special one of the same finding has."""
    kept = []
    for each in mentions:
        if each.finding is special.finding:
            rest = [region for region in each.regions if region not in special.regions]
            agrees = each.verdict.existence == special.verdict.existence or not special.regions
            if (each.regions and not rest) or (not each.regions and agrees):
                continue
            each.regions = rest
        kept.append(each)
    return kept
