"""Predicates after a finding: "has not been clearly demonstrated", "seems most improbable".

A predicate is a chain of auxiliaries, adverbs and negations, and then a participle or an adjective of a
closed class (words.toml). The class, the negation and the modal decide the kind of the cue, so that no list
has to name every combination. A phrase of the lexicon that covers the whole predicate takes precedence.
"""

from dataclasses import dataclass
from typing import Any, Final

from medground.reports.breaks import HARD, Cue
from medground.reports.wordlists import word_set

BE: Final = frozenset(("is", "are", "was", "were", "be", "been", "being"))
AUXILIARIES: Final = BE | word_set("predicates", "auxiliaries")
MONTHS: Final = word_set("predicates", "months")
MODALS: Final = frozenset(("may", "might", "could", "should", "would", "must"))
STARTS: Final = AUXILIARIES | MODALS | {"can", "cannot"}
NEGATIONS: Final = frozenset(("not", "never", "cannot"))
ADVERBS: Final = word_set("predicates", "adverbs")
CAN: Final = MODALS | {"can"}
HEDGES: Final = frozenset(("likely", "unlikely", "probably", "possibly", "presumably", "potentially"))
WHOLLY: Final = word_set("predicates", "wholly")
PARTLY: Final = word_set("predicates", "partly")
SEEN: Final = word_set("predicates", "seen")
GONE: Final = word_set("predicates", "gone")
EXCLUDED: Final = word_set("predicates", "excluded")
UNLIKELY: Final = word_set("predicates", "unlikely")
DOUBTFUL: Final = word_set("predicates", "doubtful")
RESEMBLES: Final = word_set("predicates", "resembles")
EARLIER: Final = word_set("predicates", "earlier")
ALIKE: Final = frozenset(("similar", "similarly", "same", "identical", "identically", "alike"))
NEAR: Final = 4  # words from a modal to one of these: "would have a very similar appearance"
CAUSES: Final = frozenset(("account", "explain", "produce", "cause"))
RELATIVES: Final = frozenset(("which", "that", "this", "these", "it", "they"))
ENDINGS: Final = frozenset(("resolution", "clearing", "clearance", "disappearance", "evacuation", "removal"))
DONE: Final = frozenset(("removed", "evacuated", "resected", "excised"))
RELATIVE: Final = (["that"], ["which"])
VIEWS: Final = frozenset(("view", "views", "frontal", "lateral", "projection", "pa", "ap"))
CONTRASTS: Final = frozenset(("contrast", "compared", "comparison", "unlike", "relative"))
CONTRAST_NEAR: Final = 7
HARD_OR_COMMA: Final = HARD | {","}
HEADS: Final = SEEN | GONE | EXCLUDED | UNLIKELY | DOUBTFUL | RESEMBLES | {"ruled"}


@dataclass(init=False, slots=True)
class Chain:
    """A predicate on words [start, end); `first` is its negation, or its start if it has none."""

    start: int
    end: int
    first: int
    head: str
    negated: bool
    words: frozenset[str]

    def __init__(self, start: int, end: int, first: int, head: str, negated: bool, words: frozenset[str]):
        self.start = start
        self.end = end
        self.first = first
        self.head = head
        self.negated = negated
        self.words = words

    def kind(self) -> str | None:
        """Return the kind of its cue (lexicon.py), "" for no cue, None if the lexicon decides."""
        modal = not MODALS.isdisjoint(self.words)
        if self.head in SEEN:
            if not self.negated or modal:
                return "M" if self.negated and "could" in self.words else None
            return "" if not WHOLLY.isdisjoint(self.words) else "M"
        if self.head in GONE:
            if not PARTLY.isdisjoint(self.words):
                return None
            if self.head in DONE and not CAN.isdisjoint(self.words) and "have" not in self.words:
                return ""  # "must be removed"
            return "" if self.negated else "V" if modal else "M"
        if self.head in EXCLUDED:
            return None if BE.isdisjoint(self.words) else "v" if self.negated or modal else "M"
        if self.head in UNLIKELY:
            return "V" if self.negated else "M"
        if self.head in DOUBTFUL:
            return None if self.negated else "V"
        if self.head in ALIKE:
            return None if self.negated else "V"
        if self.head in RESEMBLES:
            return "V" if modal and not self.negated else None
        return ""


def with_predicates(words: list[str], cues: list[Cue], tags: dict[str, list[Any]]) -> list[Cue]:
    """Return the cues, with one for each predicate that neither they nor a phrase that resembles a cue cover.

    A negated participle of another class, that is no state, denies something else: "cannot be measured".
    """
    if not ENDINGS.isdisjoint(words):
        cues = _without_denied_ends(words, cues)
    if "not" in words:
        cues = [cue for cue in cues if not (cue[2] == "M" and _is_earlier(words, *cue[:2]))]
    if STARTS.isdisjoint(words):
        return cues
    if HEADS.isdisjoint(words) and NEGATIONS.isdisjoint(words) and ALIKE.isdisjoint(words):
        return cues
    pseudo, spans, states = ([(i, j) for i, j, _ in tags.get(kind, ())] for kind in "zFT")
    known = [*((i, j) for i, j, kind in cues if kind != "E"), *pseudo]
    named = {i for i, _ in (*spans, *states)}
    n = 0
    while n < len(words):
        chain = _chain(words, n) if words[n] in STARTS else None
        n = chain.end if chain else n + 1
        if chain is None or (kind := chain.kind()) is None:
            continue
        if chain.head in CAUSES and kind and _is_subject(words, chain, spans):
            cues = [cue for cue in cues if not chain.start <= cue[0] < chain.end]
            cues.append((chain.start, chain.end, kind))
            continue
        if chain.head not in ALIKE and _is_known(chain, known):
            continue
        if chain.head in SEEN and _is_earlier(words, chain.start, chain.end):
            kind = ""
        if (
            chain.head not in HEADS
            and chain.head not in ALIKE
            and (chain.end - 1 in named or not _ends_clause(words, chain, spans))
        ):
            continue
        if (chain.head in RESEMBLES or chain.head in ALIKE) and not _ends_clause(words, chain, spans):
            continue
        a, b = chain.start, chain.end
        cues = [cue for cue in cues if not (a <= cue[0] and cue[1] <= b and cue[2] in "NMBUVuvLP")]
        cues += [(a, b, kind)] if kind else []
    return sorted(cues)


def _without_denied_ends(words: list[str], cues: list[Cue]) -> list[Cue]:
    """Return the cues with a break in place of an end that is denied: "without complete clearing of"."""
    kept: list[Cue] = []
    for cue in cues:
        denies = bool(kept) and kept[-1][2] == "N" and cue[0] - kept[-1][1] <= 1
        if denies and cue[2] == "N" and not ENDINGS.isdisjoint(words[cue[0] : cue[1]]):
            kept[-1] = (kept[-1][0], cue[1], "E")
        else:
            kept.append(cue)
    return kept


def _chain(words: list[str], start: int) -> Chain | None:
    """Return the predicate that begins at a word, or None."""
    n, first, negated = start, start, False
    while n < len(words):
        word = words[n]
        longer = word == "no" and words[n + 1 : n + 2] == ["longer"]
        if word in NEGATIONS or longer:
            first, negated = (n, True) if not negated else (first, False)
            n += longer
        elif word in HEADS or word in HEDGES or not _is_inside(word):
            break
        n += 1
    modal = next(
        (m for m in range(start, min(n, len(words))) if words[m] in MODALS or words[m] == "can"), None
    )
    if modal is not None and not ALIKE.isdisjoint(words[modal : modal + NEAR + 1]):
        n = next(m for m in range(modal, len(words)) if words[m] in ALIKE)
        return Chain(start, n + 1, first, words[n], negated, frozenset(words[start:n]))
    if n >= len(words) or n == start or not (words[n] in HEADS or (negated and _is_participle(words[n]))):
        return None
    head, inside = words[n], frozenset(words[start:n])
    if head == "ruled":
        if words[n + 1 : n + 2] != ["out"]:
            return None
        n, head = n + 1, "excluded"
    return Chain(start, n + 1, first, head, negated, inside)


def _is_participle(word: str) -> bool:
    return len(word) > 4 and word.endswith(("ed", "ing"))


def _is_inside(word: str) -> bool:
    """Return whether a word continues a chain: an auxiliary, a modal or an adverb."""
    return word in STARTS or word in ADVERBS or word in PARTLY or word.endswith("ly")


def _is_known(chain: Chain, known: list[tuple[int, int]]) -> bool:
    """Return whether a phrase of the lexicon covers the predicate from its negation on, or goes beyond it."""
    return any(i < chain.end <= j and (i <= chain.first or j > chain.end) for i, j in known)


def _is_subject(words: list[str], chain: Chain, findings: list[tuple[int, int]]) -> bool:
    """Return whether a finding is what may cause another: "edema could account for the opacities"."""
    before = [j for _, j in findings if j <= chain.start]
    gap = words[before[-1] : chain.start] if before else ["."]
    return HARD.isdisjoint(gap) and RELATIVES.isdisjoint(gap) and "," not in gap


def _is_earlier(words: list[str], i: int, j: int) -> bool:
    """Return whether a denial on words [i, j) is about another image: "is not seen on the prior study"."""
    if "not" not in words[i:j]:
        return False
    if words[i - 1 : i] in RELATIVE and not VIEWS.isdisjoint(words[j : j + 4]):
        return True  # "an effusion that is not apparent on the frontal view"
    after = words[j + 1 : j + 3] if words[j : j + 1] in (["on"], ["in"], ["at"]) else words[j : j + 1]
    return not EARLIER.isdisjoint([*words[i:j], *after]) or _is_date(after[:1])


def _is_date(words: list[str]) -> bool:
    """Return whether a word is a year or a month: "not seen in 2019"."""
    return words != [] and (words[0] in MONTHS or (len(words[0]) == 4 and words[0].isdigit()))


def is_of_earlier(words: list[str], i: int, j: int) -> bool:
    """Return whether a finding on words [i, j) is that of an earlier image in a comparison.

    Example: "no edema, in contrast to the edema seen yesterday".
    """
    start = max((n for n in range(i) if words[n] in CONTRASTS), default=None)
    if start is None or i - start > CONTRAST_NEAR or not HARD_OR_COMMA.isdisjoint(words[start:i]):
        return False
    after = words[j : j + CONTRAST_NEAR]
    end = next((n for n, word in enumerate(after) if word in HARD_OR_COMMA or word in BE), len(after))
    return EARLIER.isdisjoint(words[start + 1 : i]) and not EARLIER.isdisjoint(after[:end])


def _ends_clause(words: list[str], chain: Chain, findings: list[tuple[int, int]]) -> bool:
    """Return whether a finding precedes in the clause and none follows: "infection could look the same"."""
    stop = next((n for n in range(chain.end, len(words)) if words[n] in HARD), len(words))
    before = [j for _, j in findings if j <= chain.start]
    after = words[chain.end : chain.end + 1] != ["by"] and any(chain.end <= i < stop for i, _ in findings)
    return bool(before) and not after and HARD.isdisjoint(words[before[-1] : chain.start])
