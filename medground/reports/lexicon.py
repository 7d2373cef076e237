"""The words of the parser, read from TOML files and built into two tries of words.

A trie node is a dict from word to node. Under "" it has the roles of the phrase that ends there, each a pair
(kind, value). The first trie has findings, states, subjects and cues, the second places. Kinds: F finding, S
subject (s: one in the last words of a finding's phrase), T state (a frozenset of their names), N and M
negation before and after (B either), U and V doubt before and after (u and v if it is stronger than
negation), L likely and P possible (before or after), A alternative, E break (e for negation only), H earlier,
G over, D differential, X removal, R advice, C change, Q severity. A phrase that only resembles a cue has no
role.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from medground.errors import MedgroundError
from medground.reports.negspacy_terms import negspacy_terms
from medground.reports.tokens import words_of
from medground.reports.tries import Trie, add, claim, end, ends, spellings, variants
from medground.reports.wordlists import read_table

Ending = tuple[list[str], tuple[str, int]]  # words of a subject; its name and their number
CUE_KINDS = {
    "negation_before": "N",
    "negation_after": "M",
    "negation_either": "B",
    "doubt_before": "u",
    "doubt_after": "v",
    "uncertain_before": "U",
    "uncertain_after": "V",
    "likely": "L",
    "possible": "P",
    "alternative": "A",
    "pseudo": "z",
    "breaks": "E",
    "causes": "e",
    "earlier_before": "H",
    "over_before": "G",
    "differential": "D",
    "known_before": "",
    "advice": "R",
}
DEVICES = "Support Devices"
CHANGES = {"improved": "improved", "worsened": "worsened", "unchanged": "no change"}
SEVERITIES = ("mild", "moderate", "severe")


@dataclass(frozen=True, slots=True)
class Finding:
    """One entry of findings.toml, which explains the keys."""

    name: str
    group: str = "own"
    words: list[str] = field(default_factory=list)
    region: list[str] = field(default_factory=list)
    default: list[str] = field(default_factory=list)
    only: list[str] = field(default_factory=list)
    at: dict[str, str] = field(default_factory=dict)
    place: str = "lung"
    within: str = ""
    only_at: bool = False
    gone: list[str] = field(default_factory=list)
    diffuse: bool = False
    chexpert: str | None = None
    ms_cxr: str | None = None
    asg: str | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """An anatomical structure that is always present; `states` maps a state to "+finding" or "-finding"."""

    name: str
    region: list[str]
    words: list[str]
    states: dict[str, str]
    reach: int = 2
    keeps: bool = False


@dataclass(frozen=True, slots=True)
class Lexicon:
    """The vocabulary of the parser."""

    findings: dict[str, Finding]
    subjects: dict[str, Subject]
    trie: Trie
    own: Trie  # a user's findings, also matched inside longer built-in phrases and cues
    places: Trie
    many: frozenset[str]
    prepositions: frozenset[str]
    verbs: frozenset[str]
    anaphora: frozenset[tuple[str, ...]]
    devices: frozenset[str]
    added: frozenset[str]  # names of a user's own findings


def _add_findings(trie: Trie, findings: Iterable[Finding]) -> None:
    for finding in findings:
        role = None if finding.group == "un-mention" else ("F", finding.name)
        for pattern in finding.words:
            for node in ends(trie, pattern, british=True, plural=True):
                claim(node, role)
        for pattern in finding.gone:
            for node in ends(trie, pattern):
                claim(node, role)
                add(node, ("X", finding.name))


def _add_both(trie: Trie, entries: Iterable[Mapping[str, Any]]) -> None:
    """Let a phrase name several findings at once."""
    for entry in entries:
        for pattern in entry["words"]:
            for node in ends(trie, pattern, british=True, plural=True):
                claim(node, None)
                for name in entry["findings"]:
                    add(node, ("F", name))


def _add_states(trie: Trie, table: Mapping[str, Any], subjects: Iterable[Subject]) -> None:
    states: dict[tuple[str, ...], set[str]] = {}
    for name, patterns in table["states"].items():
        for pattern in patterns:
            for words in spellings(pattern):
                states.setdefault(words, set()).add(name)
    for words, names in states.items():
        add(end(trie, words), ("T", frozenset(names)))
    named: dict[tuple[str, ...], str] = {}
    for subject in subjects:
        for pattern in subject.words:
            for words in spellings(pattern):
                for each in variants(words, plural=True):
                    add(end(trie, each), ("S", subject.name))
                    named[each] = subject.name
    endings: dict[str, list[Ending]] = {}
    for each in sorted(named, key=len, reverse=True):
        endings.setdefault(each[-1], []).append((list(each), (named[each], len(each))))
    _add_inner_subjects(trie, endings, [])


def _add_inner_subjects(trie: Trie, endings: Mapping[str, list[Ending]], path: list[str]) -> None:
    """Keep the subject of "calcified aorta", so that "tortuous calcified aorta" has both states.

    `endings` has the subjects by their last word, the longest first; `path` the words before the trie.
    """
    for word, node in trie.items():
        if not word:
            continue
        path.append(word)
        roles = node.get("", ())
        if roles and word in endings and [kind for kind, _ in roles if kind == "F"]:
            for words, subject in endings[word]:
                if len(words) < len(path) and path[-len(words) :] == words:
                    node[""] = (*roles, ("s", subject))
                    break
        if len(node) > 1 or not roles:
            _add_inner_subjects(node, endings, path)
        path.pop()


def _add_cues(trie: Trie, cues: Mapping[str, Any]) -> None:
    roles = {key: (kind, key) if kind else None for key, kind in CUE_KINDS.items()}
    roles |= {key: ("C", change) for key, change in CHANGES.items()}
    roles |= {severity: ("Q", severity) for severity in SEVERITIES}
    for key, role in roles.items():
        for pattern in cues[key]:
            for node in ends(trie, pattern):
                add(node, role)


def _add_negspacy(trie: Trie, cues: Mapping[str, Any]) -> None:
    """Add the terms of negspacy's en_clinical that are not in our own lists."""
    doubt, left_out = set(cues["negspacy"]["doubt"]), set(cues["negspacy"]["left_out"])
    kinds = {
        "preceding_negations": "N",
        "following_negations": "M",
        "termination": "E",
        "pseudo_negations": "",
    }
    for key, terms in negspacy_terms().items():
        for term in terms:
            if term in left_out or term in doubt:
                continue
            for node in ends(trie, term):
                if not node.get(""):
                    add(node, (kinds[key], "negspacy") if kinds[key] else None)


def _add_places(trie: Trie, table: Mapping[str, Any]) -> None:
    def all_of(patterns: Iterable[str], role: tuple[str, Any]) -> None:
        for pattern in patterns:
            for node in ends(trie, pattern, british=True):
                add(node, role)

    for side in ("right", "left", "both", "pair"):
        all_of(table["side"][side], ("side", side))
    all_of(table["side"]["none"], ("none", None))
    all_of(table["elsewhere"]["words"], ("elsewhere", None))
    for level, adjectives in table["adjectives"].items():
        all_of(adjectives, ("adjective", level))
    for entry in table["level"]:
        for number in ("words", "both", "vague", "right", "left", "usually_left"):
            all_of(entry.get(number, ()), ("level", (entry["name"], number)))
    all_of(table["nouns"]["one"], ("noun", "one"))
    all_of(table["nouns"]["many"], ("noun", "many"))
    for entry in table["place"]:
        all_of(entry["words"], ("place", entry["name"]))


def _finding(entry: Any, source: str) -> Finding:
    """Return one entry of a file as a Finding; raises MedgroundError if it is invalid."""
    import msgspec

    if isinstance(entry, dict) and (unknown := sorted(entry.keys() - Finding.__dataclass_fields__.keys())):
        known = ", ".join(Finding.__dataclass_fields__)
        raise MedgroundError(f"{source}: unknown key {unknown[0]!r} in a finding; known are {known}")
    try:
        return msgspec.convert(entry, Finding)
    except msgspec.ValidationError as error:
        raise MedgroundError(f"{source}: a [[finding]]: {error}") from None


def _with_own(findings: dict[str, Finding], table: Mapping[str, Any], source: str) -> dict[str, Finding]:
    """Return the findings with a user's: words are added to a known name, other keys replace its own."""
    for entry in table.get("finding", ()):
        own = _finding(entry, source)
        old = findings.get(own.name)
        if old:
            given = {key: value for key, value in entry.items() if key != "words"}
            kept = {key: getattr(old, key) for key in Finding.__dataclass_fields__}
            own = Finding(**{**kept, **given, "words": [*old.words, *own.words]})
            findings.pop(own.name)  # the last finding takes its words from all others
        findings[own.name] = own
    return findings


def _read_own(path: str, cues: dict[str, Any]) -> dict[str, Any]:
    """Return a user's lexicon; its cues are added to the built-in ones."""
    try:
        own = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MedgroundError(f"{path}: {error}") from None
    if unknown := sorted(own.keys() - {"finding", "cues"}):
        raise MedgroundError(f"{path}: unknown key {unknown[0]!r}; known are [[finding]] and [cues]")
    for key, patterns in own.get("cues", {}).items():
        if key not in CUE_KINDS:
            raise MedgroundError(f"{path}: unknown list of cues {key!r}; known are {', '.join(CUE_KINDS)}")
        if not isinstance(patterns, list) or not all(isinstance(each, str) for each in patterns):
            raise MedgroundError(f"{path}: cues.{key}: expected a list of words")
        cues[key] = [*cues[key], *patterns]
    return own


@lru_cache(maxsize=4)
def load(own: str | None = None) -> Lexicon:
    """Return the package's lexicon, with the entries of the TOML file `own` added to it."""
    table, regions, cues = read_table("findings.toml"), read_table("regions.toml"), read_table("cues.toml")
    states = read_table("states.toml")
    findings = {entry["name"]: _finding(entry, "findings.toml") for entry in table["finding"]}
    ours = set(findings)
    extra = _read_own(own, cues) if own is not None else {}
    findings = _with_own(findings, extra, own or "")
    subjects = {entry["name"]: Subject(**entry) for entry in states["subject"]}
    names = dict.fromkeys(entry["name"] for entry in extra.get("finding", ()))
    lexicon = _build(findings, subjects, states, regions, cues, table.get("both", ()), names, ours)
    _add_findings(lexicon.own, (_finding(entry, own or "") for entry in extra.get("finding", ())))
    return lexicon


def _build(
    findings: dict[str, Finding],
    subjects: dict[str, Subject],
    states: Mapping[str, Any],
    regions: Mapping[str, Any],
    cues: Mapping[str, Any],
    both: Iterable[Mapping[str, Any]],
    own: Iterable[str],
    ours: set[str],
) -> Lexicon:
    trie: Trie = {}
    places: Trie = {}
    _add_findings(trie, findings.values())
    _add_both(trie, both)
    _add_findings(trie, [findings[name] for name in own])  # a user's words take precedence
    _add_states(trie, states, subjects.values())
    _add_cues(trie, cues)
    _add_negspacy(trie, cues)
    _add_places(places, regions)
    return Lexicon(
        findings=findings,
        subjects=subjects,
        trie=trie,
        own={},
        places=places,
        many=frozenset(regions["nouns"]["many"]),
        prepositions=frozenset(cues["prepositions"]),
        verbs=frozenset(cues["verbs"]),
        anaphora=frozenset(words_of(each) for each in cues["anaphora"]),
        devices=frozenset(each.name for each in findings.values() if each.chexpert == DEVICES),
        added=frozenset(findings.keys() - ours),
    )
