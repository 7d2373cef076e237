"""Locations of findings: each place is given to a finding, shared in lists, and passed on to explanations."""

from typing import Final

from medground.reports.breaks import in_aside
from medground.reports.lexicon import Finding
from medground.reports.mentions import COPULAS, HARD, Mention
from medground.reports.regions import LUNG, Place
from medground.reports.sharing import CLAUSES, EXPLAINS, GOES_WITH, LIST, REACH, share
from medground.reports.wordlists import word_set

WHOLE: Final = [("both", "lung")]
SHOWS: Final = word_set("linking", "shows")
HIDES: Final = word_set("linking", "hides")
PAIRS: Final = (["and"], ["or"], ["/"], ["&"])
IN: Final = frozenset(("in", "at", "of", "on", "within", "over", "throughout"))
PLAIN_GAP: Final = 2  # words between the last place of a list and its noun
AGAIN: Final = word_set("linking", "again")
NEGATIONS: Final = (["no"], ["without"])
NEXT: Final = (["and"], ["with"], [","])
ENDS_CLAUSE: Final = CLAUSES | {",", "and", ".", ";", ":"}
STATED: Final = (
    COPULAS | word_set("predicates", "seen") | {"again", "still", "now"}
)  # "effusion is present (right)"
PAIRED: Final = frozenset(("hilar structures", "costophrenic angle", "hemidiaphragm"))


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
        if _is_other_subject(words, mentions, place):
            continue
        owner = _owner(words, mentions, place, verbs, places)
        if owner is not None and _is_aside(words, owner, place):
            continue
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
        share(words, current, bridges)


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


def _is_other_subject(words: list[str], mentions: list[Mention], place: Place) -> bool:
    """Return whether a place has a predicate that is no finding: "the trachea is midline, no effusion"."""
    if place.post or place.j >= len(words) or words[place.j] not in COPULAS:
        return False
    start = place.i - (words[place.i - 1 : place.i] in (["the"], ["both"]))
    if start and words[start - 1] not in ENDS_CLAUSE:
        return False
    end = next((n for n in range(place.j, len(words)) if words[n] in ENDS_CLAUSE), len(words))
    if any(mention.i < place.j and place.i < mention.j for mention in mentions):
        return False
    return not any(place.j < mention.i < end for mention in mentions)


def _is_aside(words: list[str], owner: Mention, place: Place) -> bool:
    """Return whether a hilum has a change of its own: "scarring with retraction of the left hilum"."""
    if not (owner.places and place.post and place.pairs):
        return False
    levels = {level for _, level in place.pairs}
    if not LUNG.isdisjoint(levels) or None in levels:
        return False
    gap = words[owner.j : place.i]
    return owner.finding.within == "lungs" and "of" in gap and not GOES_WITH.isdisjoint(gap)


def _place_beside(words: list[str], mentions: list[Mention], places: list[Place]) -> None:
    """Give "the left upper lobe with scarring" its place; a finding that has its own place keeps it."""
    for place in places:
        after = next((each for each in mentions if each.i >= place.j), None)
        if after and not after.places and after.fixed is None and HARD.isdisjoint(words[place.j : after.i]):
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
    if before and not HARD.isdisjoint(words[before.j + label : place.i]):
        start = next((n for n in range(before.j, place.i) if words[n] not in STATED), place.i)
        if in_aside(words, start, place.i) and not (after and _is_inside(words, place.j, after.i)):
            return before
        before = None
    if after and not HARD.isdisjoint(words[place.j : after.i]) and not _label(words, place):
        after = None
    if before is None and after is not None and _is_of_other(words, place, after, places):
        return None
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
    if not HIDES.isdisjoint(words[max(before.j, place.i - 3) : place.i]):
        return before
    gap = words[place.j : after.i]
    last = _end_of_list(words, place, [p for p in places if p.i < after.i])
    if (
        after.fixed is None
        and last > place.j
        and IN.isdisjoint(words[before.j : place.i])
        and len(words[last : after.i]) <= PLAIN_GAP
        and (LIST | {"with"}).isdisjoint(words[last : after.i])
    ):
        return after  # "hyperinflation with left perihilar and bibasilar opacities"
    if _ends_phrase(words, place, before, after):
        return before
    if (_goes_on(words, before, place) and not EXPLAINS.isdisjoint(gap)) or (
        place.i == before.j and (verbs | EXPLAINS) & set(gap)
    ):
        return before  # "opacity left base [and lingula] compatible with atelectasis"
    if not CLAUSES.isdisjoint(gap) or (gap[:1] in NEXT and _goes_on(words, before, place)):
        return before  # "effusions in both bases and the lingula and a nodule", "opacity, left base, while"
    if not LIST.isdisjoint(words[before.j : place.i]) and "," not in gap:
        return after  # "congestion and bilateral interstitial and alveolar opacities"
    if "," in gap or "and" in gap or "or" in gap or "with" in gap:
        return before if verbs.isdisjoint(gap) else after
    return after


def _ends_phrase(words: list[str], place: Place, before: Mention, after: Mention) -> bool:
    """Return whether a place ends the phrase of the finding before it, with words before the next finding.

    Examples: "scarring right apex stable cardiomegaly", "effusion is seen bilaterally without edema".
    """
    gap = words[place.j : after.i]
    if _is_fixed(before.finding) or not (gap or _is_fixed(after.finding)):
        return False
    return place.i == before.j or (gap[:1] in NEGATIONS and STATED.issuperset(words[before.j : place.i]))


def _is_of_other(words: list[str], place: Place, after: Mention, places: list[Place]) -> bool:
    """Return whether a place before a finding, which has its own, is that of something else.

    Examples: "better aeration of the right base, persistent retrocardiac collapse", "right upper lobe
    aeration with atelectasis in the left base".
    """
    gap = words[place.j : after.i]
    if place.post and place.i > 1 and "," in gap:
        return any(place.j < p.i < after.i and (p.sided or p.usual) for p in places)
    if "with" not in gap[1:]:
        return False
    end = next((n for n in range(after.j, len(words)) if words[n] in HARD or words[n] in LIST), len(words))
    return any(place.j < p.i < end and p.sided for p in places)


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
    begins = place.i <= 1 or not HARD.isdisjoint(words[place.i - 2 : place.i])
    return begins and words[place.j : place.j + 1] == [":"]
