"""One analyzed sentence."""

from dataclasses import dataclass, field
from typing import Any

from medground.reports.breaks import Cue
from medground.reports.ellipsis import Half
from medground.reports.existence import CLAUSE_ENDS, Scopes
from medground.reports.mentions import Mention
from medground.reports.regions import Place
from medground.reports.states import COPULAS, Statement
from medground.reports.wordlists import word_set

REPEATED = frozenset(("again", "still"))
SEEN = word_set("predicates", "seen")
PERSIST = frozenset(("persists", "persist", "remains", "remain"))
AFFIRMED = (["present"], ["noted"])


@dataclass(slots=True)
class Reading:
    """One analyzed sentence: its words, the matches on them, and the resulting mentions."""

    words: list[str]
    starts: list[int]
    ends: list[int]
    tags: dict[str, list[Any]] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)
    cues: list[Cue] = field(default_factory=list)
    mentions: list[Mention] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    halves: list[Half] = field(default_factory=list)
    scopes: Scopes | None = None
    refers: bool = False  # it refers to the sentence before it

    def affirms(self, j: int) -> bool:
        """Return whether "is present", "is small" or, up to the end of a clause, "unchanged" follows.

        The finding ends before word j.
        """
        if not PERSIST.isdisjoint(self.words[j : j + 1]) and self.words[j + 1 : j + 2] in CLAUSE_ENDS:
            return True
        if not COPULAS & set(self.words[j : j + 1]):
            ends = [end for kind in "QC" for i, end, _ in self.tags.get(kind, ()) if i == j]
            return any(self.words[end : end + 1] in CLAUSE_ENDS for end in ends)
        n = j + 1
        while self.words[n : n + 1] and self.words[n] in REPEATED:
            n += 1
        if n > j + 1 and self.words[n : n + 1] and self.words[n] in SEEN:
            return True
        said = self.words[j + 1 : j + 2]
        return said in AFFIRMED or any(i == j + 1 for kind in "QC" for i, _, _ in self.tags.get(kind, ()))
