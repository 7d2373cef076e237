"""A finding that a sentence mentions, with the decision about it."""

from dataclasses import dataclass, field

from medground.records import RegionSource
from medground.reports.lexicon import Finding
from medground.reports.regions import Place
from medground.reports.verdicts import Verdict
from medground.reports.wordlists import word_set

HARD = frozenset(";:.()[]*|")
COPULAS = word_set("states", "copulas")
DEVICES = frozenset(("tubesandlines", "device"))  # groups of findings


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
