"""One analyzed sentence."""

from dataclasses import dataclass
from typing import Any, Final

from medground.reports.breaks import Cue
from medground.reports.ellipsis import Half
from medground.reports.existence import CLAUSE_ENDS, Scopes
from medground.reports.mentions import Mention
from medground.reports.regions import Place
from medground.reports.states import COPULAS, Statement
from medground.reports.wordlists import word_set

REPEATED: Final = frozenset(("again", "still"))
SEEN: Final = word_set("predicates", "seen")
PERSIST: Final = frozenset(("persists", "persist", "remains", "remain"))
AFFIRMED: Final = (["present"], ["noted"])


@dataclass(init=False, slots=True)
class Reading:
    """One analyzed sentence: its words, the matches on them, and the resulting mentions."""

    words: list[str]
    starts: list[int]
    ends: list[int]
    tags: dict[str, list[Any]]
    places: list[Place]
    cues: list[Cue]
    mentions: list[Mention]
    statements: list[Statement]
    halves: list[Half]
    scopes: Scopes | None
    refers: bool  # it refers to the sentence before it

    def __init__(self, words: list[str], starts: list[int], ends: list[int]):
        self.words = words
        self.starts = starts
        self.ends = ends
        self.tags = {}
        self.places = []
        self.cues = []
        self.mentions = []
        self.statements = []
        self.halves = []
        self.scopes = None
        self.refers = False

    def affirms(self, j: int) -> bool:
        """Return whether "is present", "is small" or, up to the end of a clause, "unchanged" follows.

        The finding ends before word j.
        """
        if not PERSIST.isdisjoint(self.words[j : j + 1]) and self.words[j + 1 : j + 2] in CLAUSE_ENDS:
            return True
        if COPULAS.isdisjoint(self.words[j : j + 1]):
            ends = [end for kind in "QC" for i, end, _ in self.tags.get(kind, ()) if i == j]
            return any(self.words[end : end + 1] in CLAUSE_ENDS for end in ends)
        n = j + 1
        while self.words[n : n + 1] and self.words[n] in REPEATED:
            n += 1
        if n > j + 1 and self.words[n : n + 1] and self.words[n] in SEEN:
            return True
        said = self.words[j + 1 : j + 2]
        return said in AFFIRMED or any(i == j + 1 for kind in "QC" for i, _, _ in self.tags.get(kind, ()))
