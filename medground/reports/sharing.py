"""Places that findings share: in a list, with an explanation, and with what goes with them."""

from dataclasses import replace
from itertools import pairwise
from typing import Final

from medground.reports.mentions import COPULAS, DEVICES, HARD, Mention
from medground.reports.regions import LUNG, Place
from medground.reports.wordlists import word_set

REFERRING: Final = frozenset(("this", "these", "it"))
APPEARANCE: Final = ["the", "appearance"]
LIST: Final = word_set("linking", "list")
SHARED: Final = word_set("linking", "shared")
EXPLAINS: Final = word_set("linking", "explains")
ASIDE: Final = 8  # words of an aside between commas
FINITE: Final = word_set("joints", "finite")
PARENCHYMA: Final = frozenset(("Lung Opacity", "Consolidation", "Atelectasis"))
JOINED_KNOWN: Final = (["and", "the"], [",", "the"])
CLAUSES: Final = word_set("linking", "clauses")
NEW_CLAUSE: Final = CLAUSES | {"and"}
GOES_WITH: Final = SHARED | {"evidenced"}
LISTED: Final = LIST | SHARED
REACH: Final = 6
PREFERRED: Final = frozenset(("over", "than"))


def share(words: list[str], mentions: list[Mention], bridges: list[tuple[int, int]]) -> None:
    """Give mentions without a place that of a neighbor in the same list, or of the finding they explain.

    "scarring or atelectasis in the right base" shares backwards before "left pneumonia and scarring" shares
    forwards.
    """
    _share_back(words, mentions, frozenset(("or", "/")))
    for earlier, later in pairwise(mentions):
        if later.places and earlier.places and later.fixed is None:
            _share_side(words, earlier, later)
        if later.places or not earlier.places or later.fixed is not None:
            continue
        gap = _without_aside(words[earlier.j : later.i])
        if not HARD.isdisjoint(gap) and not _refers(gap):
            continue
        explained = (
            _is_explained(earlier) and "there" not in gap and _is_bridged(words, earlier, later, bridges)
        )
        listed = (
            _is_list(gap)
            and EXPLAINS.isdisjoint(gap)
            and _may_share(later, earlier.places)
            and _are_alike(words, earlier, later)
        )
        if explained or (listed and any(p.i < earlier.j for p in earlier.places)):
            later.places, later.shared = earlier.places, True
    _share_back(words, mentions, LIST)
    for earlier, later in pairwise(mentions):
        if (
            _is_bridged(words, earlier, later, bridges)
            and not earlier.places
            and earlier.fixed is None
            and HARD.isdisjoint(words[earlier.j : later.i])
        ):
            earlier.places, earlier.shared = [place for place in later.places if place.i >= later.j], True


def _share_side(words: list[str], earlier: Mention, later: Mention) -> None:
    """Give the side before a list to the level of its next finding: "bilateral effusions and basal collapse".

    One side reaches only what goes with its finding: "left effusion with basal collapse".
    """
    gap = words[earlier.j : later.i]
    sides = {side for place in earlier.places for side, _ in place.pairs if place.j <= earlier.i}
    levels = {level for place in later.places for _, level in place.pairs}
    if len(sides) != 1 or None in sides or any(place.sided or place.names for place in later.places):
        return
    if not HARD.isdisjoint(gap) or "no" in gap or "," in gap or len(gap) > REACH:
        return
    fits = LUNG.issuperset(levels) if sides == {"both"} else not GOES_WITH.isdisjoint(gap)
    if fits and earlier.verdict.existence == later.verdict.existence:
        (side,) = sides
        later.places = [replace(p, pairs=[(side, level) for _, level in p.pairs]) for p in later.places]


def _refers(gap: list[str]) -> bool:
    """Return whether a second clause refers to the first: "opacity in the left base; this may be
    atelectasis".
    """
    last = max(n for n, word in enumerate(gap) if word in HARD)
    begins = gap[last + 1 : last + 3]
    return gap[last] == ";" and bool(begins) and (begins[0] in REFERRING or begins == APPEARANCE)


def _is_bridged(words: list[str], earlier: Mention, later: Mention, bridges: list[tuple[int, int]]) -> bool:
    """Return whether a doubt or an explanation joins two findings: not "is likely, and a nodule is seen"."""
    return any(
        earlier.j <= i
        and j <= later.i
        and (words[i] not in COPULAS or NEW_CLAUSE.isdisjoint(words[j : later.i]))
        for i, j in bridges
    )


def _without_aside(gap: list[str]) -> list[str]:
    """Return the words between two findings without an aside: ", not much changed, with adjacent"."""
    if gap[:1] == [","] and "," in gap[1:ASIDE]:
        end = gap.index(",", 1)
        if not SHARED.isdisjoint(gap[end + 1 : end + 3]) and LIST.isdisjoint(gap[1:end]):
            return gap[end + 1 :]
    return gap


def _is_explained(mention: Mention) -> bool:
    """Return whether a mention may have an explanation at its place."""
    if mention.verdict.existence == "absent" or mention.finding.group in DEVICES or mention.finding.region:
        return False
    return not any(level == "hemidiaphragm" for place in mention.places for _, level in place.pairs)


def _share_back(words: list[str], mentions: list[Mention], joins: frozenset[str]) -> None:
    """Give a place after the last finding of a list to the findings before it."""
    for earlier, later in zip(mentions[-2::-1], mentions[:0:-1], strict=False):
        if earlier.places or earlier.fixed is not None or not later.places:
            continue
        gap = words[earlier.j : later.i]
        after = [place for place in later.places if place.i >= later.j]
        alike = _are_alike(words, earlier, later)
        if (
            alike
            and _may_share(earlier, after)
            and (not gap or (not (joins | PREFERRED).isdisjoint(gap) and _is_list(gap)))
        ):
            earlier.places, earlier.shared = after, True


def _may_share(mention: Mention, places: list[Place]) -> bool:
    """Return whether a mention may take another's places; a diffuse finding takes no place with one side."""
    if mention.finding.place == "":
        return False  # bones, with the places of a lung
    sides = {side for place in places for side, _ in place.pairs}
    return bool(places) and not (mention.finding.diffuse and sides & {"right", "left"} and len(sides) == 1)


def _are_alike(words: list[str], earlier: Mention, later: Mention) -> bool:
    """Return whether two mentions may be of one list.

    A line and a finding are not, nor what is denied and what is not, nor the state of a structure: "the hila
    are normal, and pneumonia ...".
    """
    if (earlier.finding.group in DEVICES) != (later.finding.group in DEVICES):
        return False
    existences = {earlier.verdict.existence, later.verdict.existence}
    if len(existences) > 1 and "absent" in existences:
        return False
    gap = words[earlier.j : later.i]
    if not SHARED.isdisjoint(gap):
        return True
    if not FINITE.isdisjoint(gap) or gap[-2:] in JOINED_KNOWN:
        return False
    explains = later.verdict.existence == "uncertain" and earlier.finding.chexpert in PARENCHYMA
    if not explains and not CLAUSES.isdisjoint(gap):
        return False
    return earlier.structure is None or COPULAS.isdisjoint(words[earlier.i : earlier.j])


def _is_list(gap: list[str]) -> bool:
    if len(gap) > 5 or "no" in gap:
        return False
    if gap[:1] in (["over"], ["than"]) and len(gap) < 3:
        return True  # "favor atelectasis over pneumonia"
    return not gap or not LISTED.isdisjoint(gap)
