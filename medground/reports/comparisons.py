"""Places in comparisons of two sides: "greater at the left than at the right base".

Such a comparison names both sides. A level that is named with one of them belongs to both.
"""

from typing import Final

from medground.reports.regions import Place, Tag
from medground.reports.wordlists import word_set

SIDES: Final = frozenset(("right", "left"))
COMPARED: Final = word_set("comparisons", "compared")
BETWEEN: Final = word_set("comparisons", "between")
TOWARDS: Final = word_set("comparisons", "towards")
OVER: Final = word_set("comparisons", "over")
COPULAS: Final = word_set("states", "copulas")
GREATER: Final = frozenset(("greater", "more", "most"))
REJECTING: Final = frozenset(("rather", "instead"))
RELATIVE: Final = frozenset(
    ("contralateral", "contralaterally", "ipsilateral", "ipsilaterally", "opposite", "other")
)
BOTH: Final = frozenset(("both", "bilateral", "bilaterally", "either"))
SIDE_NOUNS: Final = frozenset(
    ("side", "lung", "base", "apex", "hemithorax", "hilum", "hemidiaphragm", "costophrenic", "lower", "upper")
)
PAIRED: Final = frozenset(("hilar structures", "hemidiaphragm", "clavicle", "lung"))
BORDERS: Final = (
    ["heart", "border"],
    ["heart", "margin"],
    ["cardiac", "border"],
    ["heart"],
    ["ventricle"],
)


def with_sides(tags: list[Tag], words: list[str]) -> list[Tag]:
    """Return the tags, with a side for words that hide one from other findings.

    "Obscuring the left heart border" is on the left, and "greater in the left base" in the left base. A place
    after "rather than" keeps its side, too. A finding that is greater on one side is on both, unless a side
    is named: "edema, greater on the right".
    """
    levels = {i for i, _, kind, _ in tags if kind in ("level", "adjective")}
    sided = any(kind == "side" for _, _, kind, _ in tags)
    return [_with_side(tag, words, levels, sided) if tag[2] == "none" else tag for tag in tags]


def _with_side(tag: Tag, words: list[str], levels: set[int], sided: bool) -> Tag:
    i, j = tag[:2]
    if words[i] in SIDES and words[i + 1 : j] in BORDERS:
        before = i - 2 if words[i - 1 : i] == ["the"] else i - 1
        if before >= 0 and words[before] in OVER:
            return i, i + 1, "side", words[i]
    elif j in levels and words[j - 1] in SIDES and (words[i] in COMPARED or words[i] in REJECTING):
        return j - 1, j, "side", words[j - 1]
    elif words[i] in GREATER and words[j - 1] in SIDES and not sided:
        return i, j, "side", "both"
    return tag


def name_other_sides(words: list[str]) -> None:
    """Replace "contralateral", and "the other" before a noun, by the side that is meant."""
    side = None
    for n, word in enumerate(words):
        if word in SIDES:
            side = word
        elif word in BOTH:
            side = None
        elif side is None or word not in RELATIVE:
            continue
        elif word.startswith("ipsi"):
            words[n] = side
        elif word.startswith("contra") or not SIDE_NOUNS.isdisjoint(words[n + 1 : n + 2]):
            words[n] = "left" if side == "right" else "right"


def compare_sides(places: list[Place], words: list[str], nouns: set[int]) -> list[Place]:
    """Return the places, with both sides of each comparison; `nouns` are the words of findings."""
    for n, word in enumerate(words):
        if word == "than":
            places = _compared(places, words, n, nouns)
    return places


def _compared(places: list[Place], words: list[str], n: int, nouns: set[int]) -> list[Place]:
    """Return the places with those of the comparison whose "than" is word n."""
    second = next((m for m in range(n + 1, len(words)) if words[m] not in TOWARDS), len(words))
    first = _first_side(words, n, nouns | {m for p in places for m in range(p.i, p.j)})
    if first is None or second == len(words) or {words[first], words[second]} != SIDES:
        return places
    one = next((p for p in places if p.i <= first < p.j), None)
    other = next((p for p in places if p.i <= second < p.j or (p.i == second + 1 and not p.sided)), None)
    both = [p for p in (one, other) if p]
    if any(p.names or any(side == "both" for side, _ in p.pairs) for p in both):
        return places
    level = next((level for p in both for _, level in p.pairs if level), None)
    if level in PAIRED and not COPULAS.isdisjoint(words[first:n]):
        return places  # "the right hilum is larger than the left": one is enlarged
    if one is None and other is None:
        found = Place(first, second + 1, [("both", None)], [], post=True)
        return sorted([*places, found], key=lambda p: p.i)
    kept = both[0]
    own = [pair for p in both for pair in p.pairs if pair[1] is not None and pair[0]]
    kept.pairs = list(dict.fromkeys([*own, (words[first], level), (words[second], level)]))
    return [p for p in places if p is kept or p not in both]


def _first_side(words: list[str], n: int, known: set[int]) -> int | None:
    """Return the side that is compared with the one after word n: "right" in "right base more than"."""
    first, compares = n - 1, False
    while first >= 0 and words[first] not in SIDES:
        compares = compares or words[first] in COMPARED
        if words[first] not in COMPARED and words[first] not in BETWEEN and first not in known:
            return None
        first -= 1
    before = first - 1
    while not compares and before >= 0 and words[before] in BETWEEN:
        before -= 1
    compares = compares or (before >= 0 and words[before] in COMPARED)
    return first if first >= 0 and compares else None
