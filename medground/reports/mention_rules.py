"""Rules on one mention: what removes, ends or affirms it, and what it needs to count."""

from collections.abc import Iterable
from typing import Final

from medground.reports.ellipsis import EXCEPTIONS
from medground.reports.lexicon import Finding
from medground.reports.mentions import COPULAS, DEVICES, Mention
from medground.reports.regions import Place
from medground.reports.run_ons import MODIFIERS
from medground.reports.settling import lies_outside
from medground.reports.states import Statement
from medground.reports.verdicts import PRESENT, Verdict
from medground.reports.wordlists import word_set

INCIDENTAL: Final = word_set("existence", "incidental")
PREPOSITIONS: Final = frozenset(("in", "at", "within", "over"))
ONE_SIDE: Final = word_set("ellipsis", "sides") | {"both"}
ENDS: Final = frozenset(("tip", "tips", "end", "course", "position", "sidehole", "loop"))
BEFORE_STATE: Final = COPULAS | word_set("states", "joined") - {"and", "or", ","} | {"still", "now"}


def phrase_start(words: list[str], i: int) -> int:
    """Return the first modifier of the finding at word i: "left" of "left basilar atelectasis"."""
    while i and words[i - 1] in MODIFIERS:
        i -= 1
    return i


def incidental(found: list[tuple[int, int, str]]) -> frozenset[int]:
    """Return the first words of findings that no list of absent ones has: "no fracture and osteopenia"."""
    if len(found) < 2 or found[0][2] in INCIDENTAL:
        return frozenset()
    return frozenset([i for i, _, name in found if name in INCIDENTAL])


def is_placed(words: list[str], i: int, j: int) -> bool:
    """Return whether a place with a side follows the finding on words [i, j), whose phrase begins an item.

    Example: "no consolidation, scarring at both apices".
    """
    if j >= len(words) or words[j] not in PREPOSITIONS:
        return False
    start = phrase_start(words, i)
    place = words[j + 1 : j + 4]
    return not ONE_SIDE.isdisjoint(place) and (
        words[start - 1] == "," or words[start - 2 : start - 1] == [","]
    )


def may_be_meant(mention: Mention) -> bool:
    """Return whether "this" or "the nodule" of the next sentence may be at the place of a finding."""
    if mention.verdict.existence == "absent" or mention.finding.group in DEVICES:
        return False
    return bool(mention.regions) and not mention.finding.region


def removed(verdict: Verdict, i: int, j: int) -> Verdict:
    """Return the verdict on a device from one on its removal: "extubated" means no tube."""
    if verdict.existence == "absent":
        return PRESENT
    return Verdict("absent", "removal", (i, j, "X")) if verdict.existence == "present" else verdict


def only_tip(words: list[str], i: int, j: int, verdict: Verdict) -> bool:
    """Return whether only a device's end is not seen: "the tip of the tube is not visualized"."""
    if verdict.existence != "absent" or verdict.rule == "negation-before":
        return False
    before = words[max(0, i - 6) : i]
    return not ENDS.isdisjoint(words[j : j + 1]) or ("of" in before and not ENDS.isdisjoint(before))


def is_passed(words: list[str], i: int, j: int, states: frozenset[int]) -> bool:
    """Return whether words separate no structure from its state.

    They are "still" or "but" before a state of the same structure ("clear but hyperinflated"), between commas
    ("the heart, however, is enlarged") or begin a clause about the structure before ("no change in the heart,
    which remains enlarged").
    """
    if words[i:j] == ["still"]:
        return True
    if words[i] == "but":
        while words[j : j + 1] and words[j] in BEFORE_STATE:
            j += 1
        return j in states
    if words[i - 1 : i] != [","]:
        return False
    return words[j : j + 1] == [","] or (words[i:j] == ["which"] and not COPULAS.isdisjoint(words[j : j + 1]))


def exceptions_in(words: list[str]) -> list[int]:
    """Return the words that begin an exception: "except", "apart"."""
    return [] if EXCEPTIONS.isdisjoint(words) else [n for n, word in enumerate(words) if word in EXCEPTIONS]


def keep_own_places(mention: Mention, exceptions: list[int]) -> None:
    """Drop places before an exception if it names its own: "clear except for opacity in the left base"."""
    start = max((n for n in exceptions if n < mention.i), default=-1)
    mention.places = [place for place in mention.places if place.i > start] or mention.places


def mention_of(statement: Statement, finding: Finding, verdict: Verdict) -> Mention:
    """Return a statement as a mention; its subject is its place."""
    regions = statement.subject.region
    places = [Place(*statement.place, [], regions)] if len(regions) == 1 else []
    about = statement.place if statement.subject.keeps else None
    mention = Mention(statement.i, statement.j, finding, verdict, places=places, fixed=regions, about=about)
    mention.apart, mention.structure = statement.apart, statement.place
    return mention


def called_normal(words: list[str], j: int, states: Iterable[tuple[int, int, frozenset[str]]]) -> bool:
    """Return whether "is normal" follows the words that end at j: "vascular engorgement is within normal
    limits".
    """
    for i, _, names in states:
        if j < i <= j + 3 and ("normal" in names or "guarded" in names):
            return all(word in COPULAS for word in words[j:i])
    return False


def without_named_tips(mentions: list[Mention]) -> list[Mention]:
    """Return the mentions without tips of named lines: such a tip is the place of the line's end."""
    if not any([m.tip for m in mentions]):
        return mentions
    lines = any(not m.tip and m.finding.chexpert == "Support Devices" for m in mentions)
    return [m for m in mentions if not m.tip] if lines else mentions


def counted(mentions: list[Mention], elsewhere: bool) -> list[Mention]:
    """Return the mentions, except those outside the chest, and those that count only at certain other
    places.
    """
    kept = [m for m in mentions if not m.finding.only_at and not lies_outside(m)]
    return [m for m in kept if m.finding.within != "chest"] if elsewhere else kept
