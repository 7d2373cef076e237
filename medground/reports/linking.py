"""Locations of findings: each place is given to a finding, shared in lists, and passed on to explanations."""

from dataclasses import dataclass, field, replace
from itertools import pairwise

from medground.records import RegionSource
from medground.reports.breaks import in_aside
from medground.reports.lexicon import Finding
from medground.reports.regions import LUNG, Place
from medground.reports.verdicts import Verdict
from medground.reports.wordlists import word_set

REFERRING = frozenset(("this", "these", "it"))
APPEARANCE = ["the", "appearance"]
WHOLE = [("both", "lung")]
LIST = word_set("linking", "list")
SHARED = word_set("linking", "shared")
SHOWS = word_set("linking", "shows")
EXPLAINS = word_set("linking", "explains")
HARD = frozenset(";:.()[]*|")
PAIRS = (["and"], ["or"], ["/"], ["&"])
IN = frozenset(("in", "at", "of", "on", "within", "over", "throughout"))
PLAIN_GAP = 2  # words between the last place of a list and its noun
AGAIN = word_set("linking", "again")
CLAUSES = word_set("linking", "clauses")
NEXT = (["and"], ["with"], [","])
GOES_WITH = SHARED | {"evidenced"}
REACH = 6
PREFERRED = frozenset(("over", "than"))
PAIRED = frozenset(("hilar structures", "costophrenic angle", "hemidiaphragm"))


@dataclass(slots=True)
class Mention:
    """One mention of a finding on words [i, j), with the decision about it."""

    i: int
    j: int
    finding: Finding
    verdict: Verdict
    places: list[Place] = field(default_factory=list)
    shared: bool = False  # its places belong to another mention
    fixed: list[str] | None = None  # regions of the subject of a statement
    about: tuple[int, int] | None = (
        None  # the words of the structure with this state: a nodule that is calcified
    )
    structure: tuple[int, int] | None = None  # the words of the structure whose state it is
    apart: bool = False  # about one side of a pair; another mention is about the other
    tip: bool = False  # the end of a line or tube, named with its place
    severity: str | None = None
    change: str | None = None
    regions: list[str] = field(default_factory=list)
    source: RegionSource = "none"

    def modify(self, kind: str, value: str) -> None:
        """Set the severity (kind Q) or the change (C), unless it has one."""
        if kind == "Q":
            self.severity = self.severity or value
        else:
            self.change = self.change or value


def link(
    words: list[str],
    mentions: list[Mention],
    places: list[Place],
    verbs: frozenset[str],
    bridges: list[tuple[int, int]],
) -> None:
    """Give every place to a mention, then share places in lists and with explanations.

    `bridges` are the words of doubts and explanations ("may represent", "consistent with").
    """
    if not mentions or not places:
        return
    beside: list[Place] = []
    for place in places:
        owner = _owner(words, mentions, place, verbs, places)
        if owner is None:
            beside.append(place)
        else:
            for twin in mentions:
                if _same_thing(owner, twin):
                    twin.places.append(place)
    _place_after(words, mentions, places)
    current = [each for each in mentions if each.verdict.existence]  # others only take their own places
    _place_beside(words, current, beside)
    if len(current) > 1:
        _share(words, current, bridges)


def _place_after(words: list[str], mentions: list[Mention], places: list[Place]) -> None:
    """Give a side with a verb to all findings of its clause: "the left shows effusion and basal collapse"."""
    for place in places:
        if place.post or words[place.j : place.j + 1] == [] or words[place.j] not in SHOWS:
            continue
        end = next((n for n in range(place.j, len(words)) if words[n] in HARD), len(words))
        end = min([end, *(p.i for p in places if p.i > place.j and p.sided)])
        for mention in mentions:
            if place.j < mention.i < end and place not in mention.places and not mention.fixed:
                mention.places.insert(0, place)


def _place_beside(words: list[str], mentions: list[Mention], places: list[Place]) -> None:
    """Give "the left upper lobe with scarring" its place; a finding that has its own place keeps it."""
    for place in places:
        after = next((each for each in mentions if each.i >= place.j), None)
        if after and not after.places and after.fixed is None and not HARD & set(words[place.j : after.i]):
            after.places = [place]


def _same_thing(one: Mention, other: Mention) -> bool:
    """Return whether one phrase names both findings, or one is the state of the other."""
    if one.structure is not None and one.structure == other.structure:
        return True  # "the left lung is hyperinflated and clear"
    a, b = one.about or (one.i, one.j), other.about or (other.i, other.j)
    return a == b or (one.about != other.about and a[0] < b[1] and b[0] < a[1])


def _owner(
    words: list[str], mentions: list[Mention], place: Place, verbs: frozenset[str], places: list[Place]
) -> Mention | None:
    before = after = None
    for mention in mentions:
        if mention.i < place.j and place.i < mention.j:
            return mention
        if mention.j <= place.i:
            before = mention
        elif after is None and mention.i >= place.j:
            after = mention
    label = before is not None and words[before.j : before.j + 1] == [
        ":"
    ]  # "consolidation: present, right base"
    if before and HARD & set(words[before.j + label : place.i]):
        if in_aside(words, before.j, place.i) and not (after and _is_inside(words, place.j, after.i)):
            return before
        before = None
    if after and HARD & set(words[place.j : after.i]) and not _label(words, place):
        after = None
    if before is None or after is None:
        aside = before is None and place.post and after is not None and "with" in words[place.j : after.i]
        return None if aside else before or after  # "aeration of the bases with a left effusion"
    if place.post:
        if place.j == after.i and words[place.i - 1] in ("a", "an"):
            return after  # "changed to a left chest tube"
        between = words[before.j : place.i]
        if place.j == after.i and ("," in between or len(between) > REACH):
            return after  # "less edema, otherwise no change in the bilateral effusions"
        within = place.j == after.i and before.verdict.existence != after.verdict.existence
        return after if within else before  # "no cavitation in the left upper lobe mass"
    gap = words[place.j : after.i]
    last = _end_of_list(words, place, places)
    if (
        after.fixed is None
        and last > place.j
        and IN.isdisjoint(words[before.j : place.i])
        and len(words[last : after.i]) <= PLAIN_GAP
        and (LIST | {"with"}).isdisjoint(words[last : after.i])
    ):
        return after  # "hyperinflation with left perihilar and bibasilar opacities"
    if place.i == before.j and _is_fixed(after.finding) and not _is_fixed(before.finding):
        return before  # "scarring right apex stable cardiomegaly"
    if (_goes_on(words, before, place) and EXPLAINS & set(gap)) or (
        place.i == before.j and (verbs | EXPLAINS) & set(gap)
    ):
        return before  # "opacity left base [and lingula] compatible with atelectasis"
    if not CLAUSES.isdisjoint(gap) or (gap[:1] in NEXT and _goes_on(words, before, place)):
        return before  # "effusions in both bases and the lingula and a nodule", "opacity, left base, while"
    if LIST & set(words[before.j : place.i]) and "," not in gap:
        return after  # "congestion and bilateral interstitial and alveolar opacities"
    if "," in gap or "and" in gap or "or" in gap or "with" in gap:
        return before if not verbs & set(gap) else after
    return after


def _is_inside(words: list[str], start: int, end: int) -> bool:
    """Return whether no bracket closes between two words."""
    return not {")", "]"} & set(words[start:end])


def _is_fixed(finding: Finding) -> bool:
    """Return whether a finding has its own region: enlargement of the heart."""
    return bool(finding.region or finding.default)


def _goes_on(words: list[str], mention: Mention, place: Place) -> bool:
    """Return whether a place is the next one in a list of the mention's places."""
    n = place.i - 1
    while n > mention.j and words[n] in AGAIN:
        n -= 1
    while n > mention.j and words[n] in LIST and words[n - 1] in LIST:
        n -= 1  # ", and"
    return words[n] in LIST and any(each.j == n for each in mention.places)


def _end_of_list(words: list[str], place: Place, places: list[Place]) -> int:
    """Return the end of a list of places before a noun: "left perihilar and bibasilar [opacities]"."""
    end = place.j
    for each in places:
        if each.i > end and not each.post and words[end : each.i] in PAIRS:
            end = each.j
    return end


def _label(words: list[str], place: Place) -> bool:
    return place.i <= 1 and words[place.j : place.j + 1] == [":"]


def _share(words: list[str], mentions: list[Mention], bridges: list[tuple[int, int]]) -> None:
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
        gap = words[earlier.j : later.i]
        if HARD & set(gap) and not _refers(gap):
            continue
        explained = _in_lungs(earlier) and any(earlier.j <= i and j <= later.i for i, j in bridges)
        listed = _is_list(gap) and not EXPLAINS & set(gap) and _may_share(later, earlier.places)
        if explained or (listed and any(p.i < earlier.j for p in earlier.places)):
            later.places, later.shared = earlier.places, True
    _share_back(words, mentions, LIST)
    for earlier, later in pairwise(mentions):
        explained = any(earlier.j <= i and j <= later.i for i, j in bridges)
        if (
            explained
            and not earlier.places
            and earlier.fixed is None
            and not HARD & set(words[earlier.j : later.i])
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


def _in_lungs(mention: Mention) -> bool:
    return not any(level == "hemidiaphragm" for place in mention.places for _, level in place.pairs)


def _share_back(words: list[str], mentions: list[Mention], joins: frozenset[str]) -> None:
    """Give a place after the last finding of a list to the findings before it."""
    for earlier, later in zip(mentions[-2::-1], mentions[:0:-1], strict=False):
        if earlier.places or earlier.fixed is not None or not later.places:
            continue
        gap = words[earlier.j : later.i]
        after = [place for place in later.places if place.i >= later.j]
        if _may_share(earlier, after) and (not gap or ((joins | PREFERRED) & set(gap) and _is_list(gap))):
            earlier.places, earlier.shared = after, True


def _may_share(mention: Mention, places: list[Place]) -> bool:
    """Return whether a mention may take another's places; a diffuse finding takes no place with one side."""
    sides = {side for place in places for side, _ in place.pairs}
    return bool(places) and not (mention.finding.diffuse and sides & {"right", "left"} and len(sides) == 1)


def _is_list(gap: list[str]) -> bool:
    if len(gap) > 5 or "no" in gap:
        return False
    if gap[:1] in (["over"], ["than"]) and len(gap) < 3:
        return True  # "favor atelectasis over pneumonia"
    return not gap or bool((LIST | SHARED) & set(gap))
