"""Severity and change of findings, from words before a finding in its own phrase, or after it."""

from collections.abc import Iterable
from typing import Any, Final

from medground.reports.breaks import HARD, in_aside
from medground.reports.ellipsis import COMPARED, Half
from medground.reports.mentions import Mention
from medground.reports.states import COPULAS
from medground.reports.wordlists import word_set

Tags = dict[str, list[Any]]
SIDES: Final = word_set("ellipsis", "sides")
DEGREES: Final = word_set("existence", "degrees")
ARTICLES: Final = frozenset(("the", "on", "in", "at", "that", "those", "one"))
NEAR, FAR = 4, 12  # words between a modifier and its finding; "no change since 2/1 in the effusion"
OF: Final = frozenset(("in", "of"))
PLURAL: Final = frozenset(("are", "have", "were", "remain", "appear"))
VERBS: Final = COPULAS | {"has", "have"}
ADVERBS: Final = frozenset(
    ("now", "been", "also", "again", "still", "both", "all", "slightly", "mildly", "markedly")
)
LISTED: Final = SIDES | {"and", ",", "the", "/", "&"}
FORMER: Final = frozenset(("not", "previously", "formerly"))


def modify(words: list[str], tags: Tags, mentions: list[Mention], halves: Iterable[Half]) -> None:
    """Set the severity and change of the mentions; words of a half belong to the half."""
    apart = {n for half in halves for n in range(half.start, half.end)}
    changes = {i: j for i, j, _ in tags.get("C", ())}
    for kind in ("Q", "C"):
        for i, j, value in tags.get(kind, ()):
            if i in apart or _is_denied(words, i) or _is_beside(words, kind, j, changes):
                continue
            for owner in _owners(words, mentions, kind, i, j):
                owner.modify(kind, value)


def _owners(words: list[str], mentions: list[Mention], kind: str, i: int, j: int) -> list[Mention]:
    """Return the mentions of a modifier on words [i, j)."""
    verb = _verb_before(words, i)
    if verb is None:
        return [each for each in [_owner(words, mentions, kind, i, j)] if each]
    found: list[Mention] = []
    for each in reversed([mention for mention in mentions if mention.j <= verb]):
        gap = words[each.j : found[-1].i if found else verb]
        if not (LISTED.issuperset(gap) if found else HARD.isdisjoint(gap)):
            break
        found.append(each)
        if words[verb] not in PLURAL:
            break
    return found or [each for each in [_owner(words, mentions, kind, i, j)] if each]


def _verb_before(words: list[str], i: int) -> int | None:
    """Return the verb of a predicate at word i: "is [now] unchanged"; None after "there is"."""
    n = i - 1
    while n >= 0 and words[n] in ADVERBS:
        n -= 1
    return n if n >= 0 and words[n] in VERBS and words[max(0, n - 1)] != "there" else None


def _owner(words: list[str], mentions: list[Mention], kind: str, i: int, j: int) -> Mention | None:
    """Return the mention of a modifier on words [i, j): the next of its phrase, else the one before."""
    for mention in mentions:
        if mention.i <= i and j <= mention.j:
            return mention
        if mention.i >= j:
            gap = words[j : mention.i]
            far = FAR if "than" in gap or (kind == "C" and not OF.isdisjoint(words[i : mention.i])) else NEAR
            if len(gap) <= far and not HARD & set(gap) and "," not in gap:
                return mention
            break
    earlier = next((mention for mention in reversed(mentions) if mention.j <= i), None)
    if earlier is None:
        return None
    start = earlier.j
    if words[start : start + 1] == ["("] and ")" in words[start:i]:
        start = words.index(")", start) + 1  # "effusion (right): small"
    start += words[start : start + 1] == [":"]  # "edema: mild"
    if not HARD.isdisjoint(words[start:i]) and not in_aside(words, earlier.j, i):
        return None
    return earlier


def _is_denied(words: list[str], i: int) -> bool:
    """Return whether a modifier at word i is denied or over: "is not large", "was large, now small"."""
    before = words[i - 1] if i else ""
    if before in ("a", "an") and words[i - 2 : i - 1] == ["not"]:
        return True
    if before == "from":
        return "to" in words[i : i + NEAR]
    return before in FORMER or (before in ("was", "were") and "now" in words[i:])


def _is_beside(words: list[str], kind: str, j: int, changes: dict[int, int]) -> bool:
    """Return whether a modifier that ends before word j is none of a finding.

    Examples: "right more than left", and the degree of a change in "slightly increased", "mild increase".
    """
    if kind == "C":
        return _compares_sides(words, j) or (words[j - 1] in COMPARED and _after_sides(words, j) > j)
    n = j + (words[j : j + 1] == ["interval"])
    return n in changes and (words[j - 1].endswith("ly") or not DEGREES.isdisjoint(words[n : changes[n]]))


def _compares_sides(words: list[str], j: int) -> bool:
    """Return whether a comparison of two sides follows: "right more than left"."""
    n = _after_sides(words, j)
    return words[n : n + 1] == ["than"] and _after_sides(words, n + 1) > n + 1


def _after_sides(words: list[str], n: int) -> int:
    """Return the place after "on the left" at word n; n if no side follows."""
    end = n
    while words[end : end + 1] and words[end] in ARTICLES:
        end += 1
    return end + 1 if words[end : end + 1] and words[end] in SIDES else n
