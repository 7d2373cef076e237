"""A finding that a sentence mentions, with the decision about it."""

from dataclasses import dataclass
from typing import Final

from medground.records import RegionSource
from medground.reports.lexicon import Finding
from medground.reports.regions import Place
from medground.reports.verdicts import Verdict
from medground.reports.wordlists import word_set

HARD: Final = frozenset(";:.()[]*|")
COPULAS: Final = word_set("states", "copulas")
DEVICES: Final = frozenset(("tubesandlines", "device"))  # groups of findings


@dataclass(init=False, slots=True)
class Mention:
    """One mention of a finding on words [i, j), with the decision about it."""

    i: int
    j: int
    finding: Finding
    verdict: Verdict
    places: list[Place]
    shared: bool  # its places belong to another mention
    fixed: list[str] | None  # regions of the subject of a statement
    about: tuple[int, int] | None  # the words of the structure with this state: a nodule that is calcified
    structure: tuple[int, int] | None  # the words of the structure whose state it is
    apart: bool  # about one side of a pair; another mention is about the other
    tip: bool  # the end of a line or tube, named with its place
    severity: str | None
    change: str | None
    regions: list[str]
    source: RegionSource

    def __init__(
        self,
        i: int,
        j: int,
        finding: Finding,
        verdict: Verdict,
        places: list[Place] | None = None,
        fixed: list[str] | None = None,
        about: tuple[int, int] | None = None,
        tip: bool = False,
    ):
        self.i = i
        self.j = j
        self.finding = finding
        self.verdict = verdict
        self.places = [] if places is None else places
        self.shared = False
        self.fixed = fixed
        self.about = about
        self.structure = None
        self.apart = False
        self.tip = tip
        self.severity = None
        self.change = None
        self.regions = []
        self.source = "none"

    def modify(self, kind: str, value: str) -> None:
        """Set the severity (kind Q) or the change (C), unless it has one."""
        if kind == "Q":
            self.severity = self.severity or value
        else:
            self.change = self.change or value
