"""One analyzed sentence."""

from dataclasses import dataclass, field
from typing import Any

from medground.reports.ellipsis import Half
from medground.reports.existence import Cue, Scopes
from medground.reports.linking import Mention
from medground.reports.regions import Place
from medground.reports.states import Statement


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
