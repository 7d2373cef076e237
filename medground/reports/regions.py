"""Places in a sentence, as names of regions.

A place is composed of a side, levels and nouns that share them: "left upper, right middle and left lower
lobes" is three regions. A level without a side is no region: a side is never guessed. Tags are (i, j, kind,
value) over words [i, j), as the trie of places gives them.
"""

from dataclasses import dataclass
from typing import Any, Final, cast

from medground.reports.lexicon import Finding
from medground.reports.wordlists import word_set

Tag = tuple[int, int, str, object]
Pair = tuple[str | None, str | None]  # (side, level)

OUTSIDE: Final = word_set("regions", "outside")
LIMBS: Final = word_set("regions", "limbs")
LUNG: Final = word_set("regions", "lungs")
JOINS: Final = word_set("regions", "joins")
TOWARDS: Final = word_set("regions", "towards")
BLOCK: Final = word_set("regions", "block")
SPARING: Final = word_set("regions", "sparing")
VERBS: Final = frozenset(("is", "are", "being", "relatively"))
REJECTING: Final = (["rather", "than"], ["instead", "of"])
ENDS: Final[tuple[list[str], ...]] = ([], ["."], [","], [";"])
AS_WELL_AS: Final = ["as", "well", "as"]


@dataclass(init=False, slots=True)
class Place:
    """Words [i, j) that name places.

    `pairs` are side and level. `names` are places without a side of their own, with the sides given for them
    ("right paratracheal").
    """

    i: int
    j: int
    pairs: list[Pair]
    names: list[str]
    post: bool  # follows a preposition: "in the right base"
    usual: str | None  # its side if no other is stated: "retrocardiac"

    def __init__(
        self,
        i: int,
        j: int,
        pairs: list[Pair],
        names: list[str],
        post: bool = False,
        usual: str | None = None,
    ):
        self.i = i
        self.j = j
        self.pairs = pairs
        self.names = names
        self.post = post
        self.usual = usual

    @property
    def sided(self) -> bool:
        """True if a side is named."""
        return any(side for side, _ in self.pairs)

    def regions(self, finding: Finding) -> list[str]:
        """Return the names of the regions for this finding; [] if no side is known."""
        if self.names:
            outside = finding.only or (finding.within == "lungs" and self.names[0] in OUTSIDE)
            beside = [f"{side} {finding.place}" for side, _ in self.pairs if finding.within == "lungs"]
            return [*([] if outside else self.names), *beside]
        found: list[str] = []
        for own, level in self.pairs:
            side = own or self.usual
            if side is None:
                continue
            if finding.within == "lungs" and level in LIMBS:
                continue
            if finding.only or level is None:
                level = finding.place
            if not level:
                continue  # a side does not determine the region of this finding
            for each in ("right", "left") if side == "both" else (side,):
                found.append(f"{each} {level}")
        return list(dict.fromkeys(found))


def find_places(
    tags: list[Tag], words: list[str], stops: set[int], prepositions: frozenset[str]
) -> list[Place]:
    """Return the places of a sentence, in order.

    `stops` are the words of findings: a bare side before one of them closes.
    """
    places: list[Place] = []
    run: list[Tag] = []
    for tag in tags:
        if tag[2] in ("none", "elsewhere"):
            continue
        if run and not _joins(run, tag, words, stops):
            places += _place(run, words, prepositions)
            run = []
        run.append(tag)
    if run:
        places += _place(run, words, prepositions)
    if "rather" in words or "instead" in words:
        places = [each for each in places if not _is_rejected(each, words)]
    return places if SPARING.isdisjoint(words) else [each for each in places if not _is_spared(each, words)]


def _is_rejected(place: Place, words: list[str]) -> bool:
    """Return whether another place is meant: "in the left upper lobe rather than the lingula"."""
    n = place.i - 1
    while n >= 0 and words[n] in TOWARDS and words[n - 1 : n + 1] != ["instead", "of"]:
        n -= 1
    return words[max(n - 1, 0) : n + 1] in REJECTING and words[place.j : place.j + 1] in ENDS


def _is_spared(place: Place, words: list[str]) -> bool:
    """Return whether a finding leaves a place out: "sparing the right apex", "the apex is spared"."""
    before, after = place.i - 1, place.j
    while before >= 0 and words[before] in TOWARDS:
        before -= 1
    while after < len(words) and words[after] in VERBS:
        after += 1
    return words[max(before, 0)] in SPARING or not SPARING.isdisjoint(words[after : after + 1])


def _joins(run: list[Tag], tag: Tag, words: list[str], stops: set[int]) -> bool:
    last = run[-1]
    if last[2] == "place" or tag[2] == "place":
        return (
            last[2] == "side" and last[1] == tag[0] and len(run) == 1
        )  # "right neck" has no region but the neck
    if last[0] == tag[0]:
        return True  # two roles of the same words
    gap = words[last[1] : tag[0]]
    if any(n in stops for n in range(last[1], tag[0])):
        return False
    sided = any(each[2] == "side" for each in run)
    if last[2] == "side":
        return _after_side(run, tag, gap)
    if last[2] == "adjective" and not (tag[2] == "side" and not set(gap) & JOINS):
        return len(gap) <= 2 and all(word in JOINS or word not in BLOCK for word in gap)
    if tag[2] == "side":
        return not sided and len(gap) <= 2 and all(word in TOWARDS for word in gap) and (tag[0] not in stops)
    if not gap:
        return True
    return not sided and len(gap) <= 2 and gap[0] == "of"


def _after_side(run: list[Tag], tag: Tag, gap: list[str]) -> bool:
    """Return whether a word for a place belongs to the side before it: "right [lateral] base", "right and
    left".
    """
    if tag[2] == "side":
        return len(run) == 1 and gap in (["and"], ["or"], ["/"])
    if len(run) > 1 and run[-2][2] in ("level", "noun") and gap:
        return gap[0] in ("lung", "upper", "lower") or gap == ["of", "the"]
    if gap and gap[0] in ("and", "or") and len(run) == 1:
        return False
    return len(gap) <= 2 and not any(word in BLOCK for word in gap)


def _place(run: list[Tag], words: list[str], prepositions: frozenset[str]) -> list[Place]:
    i, j = run[0][0], run[-1][1]
    before = words[i - 1] if i else ""
    if before in ("the", "a", "an", "both", "his", "her") and i > 1:
        before = words[i - 2]
    post = before in prepositions and words[max(0, i - 3) : i] != AS_WELL_AS
    if run[-1][2] == "place":
        sides = [str(value) for _, _, kind, value in run if kind == "side" and value in ("right", "left")]
        return [Place(i, j, [(side, None) for side in sides], [str(run[-1][3])], post)]
    pairs = _pairs(run)
    if pairs == [("pair", None)]:
        return []  # "both views"
    side = "left" if any(_is_usual(kind, value) for _, _, kind, value in run) else None
    pairs = [("both" if s == "pair" else s, level) for s, level in pairs]
    return [Place(i, j, pairs, [], post, side)] if pairs else []


def _is_usual(kind: str, value: object) -> bool:
    return kind == "level" and isinstance(value, tuple) and value[1] == "usually_left"


def _pairs(run: list[Tag]) -> list[Pair]:
    """Return the (side, level) pairs of one run of tags."""
    side: str | None = None
    found: list[list[Any]] = []  # [side, level, number]
    pending: list[list[Any]] = []
    for n, (i, _, kind, value) in enumerate(run):
        same = n + 1 < len(run) and run[n + 1][0] == i  # a second role of the same words follows
        if kind == "side":
            side = _next_side(side, str(value), found, pending)
        elif kind == "adjective":
            pending.append([side, value, "vague" if same else "adjective"])
        elif kind == "noun":
            found += _with_noun(side, pending, str(value), n > 0 and run[n - 1][0] == i)
            pending = []
        else:
            name, number = cast(tuple[str, str], value)
            if pending and n and run[n - 1][0] == i and run[n - 1][2] == "adjective":
                continue  # "apical": an adjective that needs no noun; see below
            if pending and name == "lung" and n + 1 < len(run) and run[n + 1][2] == "noun" and same:
                continue  # "upper lung": the noun completes the adjectives
            found += [[s, level, "words"] for s, level, _ in pending if name in LUNG]
            pending = []
            forced = number if number in ("right", "left") else None
            found.append([forced or side, name, number])
    found += [[s, level, "vague"] for s, level, number in pending if number == "vague"]
    if not found:
        return [(side, None)] if side else []
    return _settled(found, side)


def _next_side(side: str | None, value: str, found: list[list[Any]], pending: list[list[Any]]) -> str:
    """Return the side that is valid from here on; levels that were named without one take it."""
    if side and not found and not pending and side != value:
        return "both"
    if side is None:
        for each in (*found, *pending):
            each[0] = each[0] or value
    return value


def _with_noun(side: str | None, pending: list[list[Any]], number: str, also_level: bool) -> list[list[Any]]:
    if pending:
        return [[s, level, "both" if number == "many" and s is None else "words"] for s, level, _ in pending]
    return [] if also_level else [[side, "lung", "both" if number == "many" else "words"]]


def _settled(found: list[list[Any]], side: str | None) -> list[Pair]:
    finer = {own for own, level, _ in found if level != "lung"}
    found = [each for each in found if each[1] != "lung" or not finer & {each[0], None, "both"}]
    pairs: list[Pair] = []
    for own, level, number in found:
        if own is None and number in ("both",):
            own = "both"
        if own is None and level == "mid lung zone" and number in ("right", "left"):
            own = number
        if (own, level) not in pairs:
            pairs.append((own, level))
    return pairs
