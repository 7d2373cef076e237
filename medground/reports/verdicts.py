"""The verdict on a finding's existence, from the kinds of the cues that reach it, in order of precedence."""

from dataclasses import dataclass
from typing import Final

from medground.records import Existence
from medground.reports.breaks import Cue

OVERRIDES: Final = {"H": frozenset("MNB"), "G": frozenset("MNBUVPLAD")}  # cues that beat an earlier state


@dataclass(init=False, slots=True)
class Verdict:
    """The decision about a finding, its rule, and the cue that decided it (None for a plain statement).

    It is not changed. This class and others of the parser define `__init__`: mypyc compiles it, and does not
    compile one that dataclass makes.
    """

    existence: Existence | None  # None: no statement about now
    rule: str
    cue: Cue | None

    def __init__(self, existence: Existence | None, rule: str, cue: Cue | None = None):
        self.existence = existence
        self.rule = rule
        self.cue = cue


PRESENT: Final = Verdict("present", "stated")


def decide(found: dict[str, Cue], likely_as: Existence) -> Verdict:
    """Return the verdict of one cue or more, by kind; `likely_as` is the existence of "likely"."""
    for kind, rule in (("u", "doubt-before"), ("v", "doubt-after")):
        if kind in found:
            return Verdict("uncertain", rule, found[kind])
    for kind in "HG":
        if kind in found and not found.keys() & OVERRIDES[kind]:
            return Verdict(None, "earlier", found[kind])
    for kind, rule in (("N", "negation-before"), ("M", "negation-after"), ("B", "negation-either")):
        if kind in found:
            return Verdict("absent", rule, found[kind])
    for kind, rule in (
        ("D", "differential"), ("U", "doubt-before"), ("V", "doubt-after"), ("A", "alternative"),
        ("P", "possible"), ("R", "advice"),
    ):  # fmt: skip
        if kind in found:
            return Verdict("uncertain", rule, found[kind])
    return Verdict(likely_as, "likely", found["L"])
