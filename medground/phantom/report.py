"""A report as hospitals write them: sections, hard-wrapped lines, `___` for what was removed.

The span of each sentence in the text is kept.
"""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from medground.phantom.findings import DEVICES, Finding
from medground.phantom.language import Meaning, Statement, pick, say_absent, say_group, say_two, words
from medground.phantom.patient import SIDES, Patient

WIDTH = 78


@dataclass(slots=True)
class Said:
    """A sentence in its report: `text == report[start:end]`, with line breaks."""

    section: str
    start: int
    end: int
    text: str
    means: list[Meaning]
    groups: list[int]


@dataclass(slots=True)
class Report:
    """The whole text; the sentences that could hold findings; the phrase of each group."""

    text: str
    said: list[Said]
    findings: str
    impression: str
    phrases: dict[int, str] = field(default_factory=dict)


def write_report(rng: np.random.Generator, patient: Patient, view: str, findings: list[Finding]) -> Report:
    """Return a true report of the mentioned findings and of some that are absent."""
    prior = bool(rng.random() < 0.55)
    groups = _groups(findings)
    body = _state(rng, groups, prior)
    summary = _summary(rng, groups, findings, body, prior)
    body = _body(rng, patient, findings, body, summary)
    if rng.random() < 0.18:  # some reports have only an impression
        body, summary = [], [*body, *summary[:1]]
    writer = _Writer()
    writer.add(" " * 33 + "FINAL REPORT")
    for name, line in _head(rng, patient, view, prior):
        writer.add(f" {name}:  {line}")
    if body:
        writer.section("FINDINGS", "findings", body, numbered=False)
    if summary:
        numbered = len(summary) > 1 and bool(rng.random() < 0.4)
        writer.section("IMPRESSION", "impression", summary, numbered=numbered)
    phrases = {group: phrase for each in [*summary, *body] for group, phrase in each.phrases.items()}
    return Report(
        writer.text, writer.said, writer.sections["findings"], writer.sections["impression"], phrases
    )


def _groups(findings: list[Finding]) -> list[list[Finding]]:
    """Return the mentioned findings by group, without those that are not visible in the image."""
    numbers = dict.fromkeys(each.group for each in findings if each.mentioned and each.box)
    return [[each for each in findings if each.group == n and each.box] for n in numbers]


def _state(rng: np.random.Generator, groups: list[list[Finding]], prior: bool) -> list[Statement]:
    """Return a sentence for each group, sometimes one for two."""
    said, rest = [], list(groups)
    if len(rest) > 1 and rng.random() < 0.3 and (both := say_two(rng, rest[0], rest[1])):
        said, rest = [both], rest[2:]
    for group in rest:
        doubt = group[0].severity == "small" and group[0].name not in DEVICES and rng.random() < 0.22
        said.append(say_group(rng, group, prior and rng.random() < 0.5, doubt))
    return said


def _body(
    rng: np.random.Generator,
    patient: Patient,
    findings: list[Finding],
    body_statements: list[Statement],
    summary: list[Statement],
) -> list[Statement]:
    """Return the findings section in random order: present findings, absent findings, and other remarks."""
    spoken = {name for each in (*body_statements, *summary) for _, name, _ in each.means}
    said = body_statements + say_absent(rng, findings, spoken, share=float(rng.uniform(0.4, 0.9)))
    if patient.height < 0.78 * patient.frame and rng.random() < 0.7:
        means: list[Meaning] = [(f"{side} lung", "low lung volumes", "present") for side in SIDES]
        said.append(Statement(pick(rng, words()["plain"]["low"]), means))
    if rng.random() < 0.5:
        said.append(Statement(pick(rng, words()["plain"]["findings"]), []))
    return [said[i] for i in rng.permutation(len(said))]


def _summary(
    rng: np.random.Generator,
    groups: list[list[Finding]],
    findings: list[Finding],
    body: list[Statement],
    prior: bool,
) -> list[Statement]:
    """Return sentences of the impression: the main findings in other words, or that nothing is acute."""
    doubtful = {group for each in body for group in each.groups if each.means[0][2] == "uncertain"}
    main = [g for g in groups if g[0].name not in DEVICES and g[0].group not in doubtful]
    said = [
        say_group(rng, group, prior and rng.random() < 0.3, False) for group in main if rng.random() < 0.75
    ]
    if not any(each.name not in DEVICES for each in findings):
        said.append(Statement(pick(rng, words()["plain"]["normal"]), []))
    elif rng.random() < 0.25:
        said.append(Statement(pick(rng, words()["plain"]["recommend"]), []))
    return said


def _head(rng: np.random.Generator, patient: Patient, view: str, prior: bool) -> list[tuple[str, str]]:
    head = words()["head"]
    person, letter = ("woman", "F") if patient.female else ("man", "M")
    lines = [
        ("EXAMINATION", pick(rng, head["examination"][view])),
        ("INDICATION", pick(rng, head["indication"]).format(person=person, letter=letter) + "."),
        ("COMPARISON", pick(rng, head["comparison"] if prior else head["first"])),
    ]
    if rng.random() < 0.3:
        lines.insert(2, ("TECHNIQUE", "Single frontal view of the chest."))
    return [each for each in lines if each[0] != "EXAMINATION" or rng.random() < 0.8]


class _Writer:
    """Text of a report with the span of each sentence."""

    def __init__(self) -> None:
        self.text = ""
        self.said: list[Said] = []
        self.sections = {"findings": "", "impression": ""}

    def add(self, line: str) -> None:
        """One line or paragraph and the blank line after it."""
        self.text += _wrapped(line)[0] + "\n \n"

    def section(self, title: str, name: str, statements: list[Statement], numbered: bool) -> None:
        """Add a header and its sentences, as one paragraph or as a numbered list."""
        self.text += f" {title}: \n \n"
        begin = len(self.text)
        if numbered:
            for number, each in enumerate(statements, start=1):
                self._paragraph(name, f"{number}. ", [each])
        else:
            self._paragraph(name, "", statements)
        self.sections[name] = self.text[begin:].strip()
        self.text += " \n"

    def _paragraph(self, name: str, lead: str, statements: list[Statement]) -> None:
        flat = " " + lead
        places: list[tuple[int, int]] = []
        for each in statements:
            if places:
                flat += " " if len(flat) % 2 else "  "
            places.append((len(flat), len(flat) + len(each.text)))
            flat += each.text
        wrapped, breaks = _wrapped(flat)
        begin = len(self.text)
        self.text += wrapped + "\n"
        for (start, end), each in zip(places, statements, strict=True):
            a, b = (begin + at + sum(at > stop for stop in breaks) for at in (start, end))
            self.said.append(Said(name, a, b, self.text[a:b], each.means, each.groups))


def _wrapped(flat: str) -> tuple[str, list[int]]:
    """Return the text with some of its spaces turned into a line feed and a space; the places of those
    spaces.
    """
    breaks, line = [], 0
    spaces = [i for i, letter in enumerate(flat) if letter == " " and i and flat[i - 1] != " "]
    for here, after in pairwise([*spaces, len(flat)]):
        if after - line > WIDTH and here > line:
            breaks.append(here)
            line = here
    text = "".join("\n " if i in set(breaks) else letter for i, letter in enumerate(flat))
    return text, breaks
