"""Sentences about present and absent findings, with their triplets.

A triplet is (region, finding, existence). The rules:
- a zone or lobe names its lung zone: "right middle lobe" and "RML" the right mid, "lingula" the left mid,
  a base the lower lung zone;
- only a side ("left pleural effusion") names the lung of that side; for a line it names the entry point
  (a PICC that arm, a jugular line that clavicle), together with the region of its tip; for a

  pacemaker it names nothing;
- "bilateral", "both lungs" are two triplets, one per lung; "bibasilar", "both lung bases" two lower zones;
- an enlarged heart has the region cardiac silhouette; edema without a location has region null, and so has
  every absent finding without a location ("no pneumothorax");
- "apical" names the side's apical zone;
- "the lungs are clear" means that lung opacity is absent in both lungs, "heart size is normal" (and a normal
  cardiomediastinal silhouette) that an enlarged cardiac silhouette is absent, "costophrenic angles are sharp"
  that their blunting is;
- "may", "possible", "probable", "suspected", "cannot be excluded" are uncertain; "unchanged", "improved",
  "new" are present;
- normal sentences without one of our findings ("no acute cardiopulmonary process") have no triplet.
"""

import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from medground.phantom.findings import DEVICES, Finding
from medground.phantom.patient import SIDES

Meaning = tuple[str | None, str, str]


@dataclass(slots=True)
class Statement:
    """One sentence with its triplets, its groups of findings, and the noun phrase of each group (some
    sentences have none)."""

    text: str
    means: list[Meaning]
    groups: list[int] = field(default_factory=list)
    phrases: dict[int, str] = field(default_factory=dict)


@cache
def words() -> dict[str, Any]:
    """Return the table of templates."""
    return tomllib.loads(Path(__file__).with_name("language.toml").read_text())


def pick(rng: np.random.Generator, options: list[Any]) -> Any:
    """Return one of the options."""
    return options[int(rng.integers(len(options)))]


def say_group(rng: np.random.Generator, group: list[Finding], prior: bool, doubt: bool) -> Statement:
    """Return a sentence about findings of one group (one or both sides)."""
    first = group[0]
    if first.name in DEVICES:
        return _say_device(rng, first)
    table = words()["finding"][first.name]
    if first.name == "lung opacity" and len(group) == 1 and rng.random() < 0.15:
        return _say_either(rng, first, table)
    if "sentences" in table and rng.random() < 0.4 and not doubt:
        size = _size(rng, table, first)
        text = pick(rng, table["sentences"]).format(sizely=_adverb(size))
        return Statement(_tidy(text), _means(first, [None], "present"), [first.group])
    phrase, regions = _phrase(rng, group, table)
    frames = words()["frames"]
    if doubt:
        key = "uncertain"
    else:
        key = ("two" if phrase.endswith("s") and len(group) == 2 else "one") + ("_prior" if prior else "")
    article = "" if table.get("mass") or phrase.endswith("s") else ("an" if phrase[0] in "aeiou8" else "a")
    text = pick(rng, frames[key]).format(phrase=phrase, Phrase=_upper(phrase), a=article)
    existence = "uncertain" if doubt else "present"
    return Statement(_tidy(text), _means(first, regions, existence), [first.group], {first.group: phrase})


def say_two(rng: np.random.Generator, first: list[Finding], second: list[Finding]) -> Statement | None:
    """Return two groups in one sentence; None where one of them is no noun phrase."""
    groups = first[0].group, second[0].group
    if any(each[0].name in DEVICES for each in (first, second)):
        return None
    pairs = [_phrase(rng, each, words()["finding"][each[0].name]) for each in (first, second)]
    (one, here), (other, there) = pairs
    text = pick(rng, words()["frames"]["both"]).format(One=_upper(one), one=one, other=other)
    means = _means(first[0], here, "present") + _means(second[0], there, "present")
    return Statement(_tidy(text), means, list(groups), dict(zip(groups, (one, other), strict=True)))


def _means(finding: Finding, regions: list[str | None], existence: str) -> list[Meaning]:
    forced = "cardiac silhouette" if finding.name == "enlarged cardiac silhouette" else None
    return [(forced or region, finding.name, existence) for region in regions]


def _phrase(
    rng: np.random.Generator, group: list[Finding], table: dict[str, Any]
) -> tuple[str, list[str | None]]:
    """Return a noun phrase and the regions that it names."""
    first, size = group[0], _size(rng, table, group[0])
    if len(group) == 2:
        if "none" in table and rng.random() < 0.75:
            return _tidy(pick(rng, table["none"]).format(size=size)), [None]
        if group[0].severity != group[1].severity:
            return _uneven(rng, group, table), [f"{side} lung" for side in SIDES]
        phrase = _tidy(pick(rng, _two(group, table)).format(size=size))
        zone = "lower lung zone" if "bas" in phrase else "lung"
        return phrase, [f"{side} {zone}" for side in SIDES]
    return _one_side(rng, first, table, size)


def _uneven(rng: np.random.Generator, group: list[Finding], table: dict[str, Any]) -> str:
    """Return both sides, each with its own size."""
    sizes = {
        each.side: pick(rng, [word for word in table["size"][each.severity] if word] or [each.severity])
        for each in group
    }
    return _tidy(pick(rng, table["uneven"]).format(right=sizes["right"], left=sizes["left"]))


def _two(group: list[Finding], table: dict[str, Any]) -> list[str]:
    """Return phrases for both sides; phrases about the bases only if both findings are there."""
    low = all(each.regions[0].endswith("lower lung zone") for each in group)
    return [each for each in table["two"] if low or "bas" not in each]


def _one_side(
    rng: np.random.Generator, first: Finding, table: dict[str, Any], size: str
) -> tuple[str, list[str | None]]:
    key = "large" if first.severity == "large" and "large" in table else "one"
    if first.regions[0].endswith("apical zone") and rng.random() < 0.6:
        key = "apical"
    template = pick(rng, table[key])
    region = first.regions[0]
    place = pick(rng, words()["at"].get(region, [region]))
    adjective = pick(rng, words()["adjective"].get(place, [place]))
    at = pick(rng, ["at the", "in the"]) if "base" in place else "in the"
    at = f"{at} {place}"
    phrase = _tidy(template.format(size=size, side=first.side, where=adjective, at=at))
    if "{where}" in template or "{at}" in template:
        return phrase, [region]
    if key == "apical":
        return phrase, [f"{first.side} apical zone"]
    return phrase, [f"{first.side} lung" if first.side else None]


def _size(rng: np.random.Generator, table: dict[str, Any], finding: Finding) -> str:
    radius = finding.detail.get("radius", 0.5)
    result: str = pick(rng, table["size"][finding.severity]).format(
        mm=round(20 * radius), cm=round(2 * radius, 1)
    )
    return result


def _adverb(size: str) -> str:
    word = size.split()[-1] if size else ""
    return {"massive": "massively", "severe": "severely", "moderate": "moderately"}.get(
        word, f"{word}ly" if word else ""
    )


def _say_either(rng: np.random.Generator, finding: Finding, table: dict[str, Any]) -> Statement:
    region = finding.regions[0]
    place = pick(rng, words()["at"][region])
    where = pick(rng, words()["adjective"].get(place, [place]))
    size = _size(rng, table, finding)
    template = pick(rng, words()["either"]["sentences"])
    text = _tidy(template.format(Size=size, where=where, at=f"in the {place}"))
    means: list[Meaning] = [(region, "lung opacity", "present")]
    means += [(region, cause, "uncertain") for cause in ("atelectasis", "pneumonia")]
    phrase = _tidy(f"{size} {where} opacity")
    shown = {finding.group: phrase} if phrase.lower() in text.lower() else {}
    return Statement(_upper(text), means, [finding.group], shown)


def _say_device(rng: np.random.Generator, finding: Finding) -> Statement:
    text, *regions = pick(rng, words()["device"][finding.name])
    side = finding.side or ""
    text = text.format(side=side, Side=_upper(side), above=finding.detail.get("above", 4.0))
    places = [region.format(side=side) for region in regions]
    return Statement(_tidy(text), _means(finding, [*places] or [None], "present"), [finding.group])


def say_absent(
    rng: np.random.Generator, findings: list[Finding], spoken: set[str], share: float
) -> list[Statement]:
    """Return true sentences about absent findings, none of them about a finding mentioned before."""
    there = {each.name for each in findings} | spoken
    dirty = {each.side for each in findings if each.name not in DEVICES}
    blocks = words()["absent"]
    said: list[Statement] = []
    for index in rng.permutation(len(blocks)):
        block = blocks[index]
        names = {name for _, name in block["means"]} | set(block.get("without", ()))
        if names & there or rng.random() > share:
            continue
        if "clear" in block and (dirty & set(block["clear"]) or None in dirty & {None}):
            continue
        there |= names
        means: list[Meaning] = [(region or None, name, "absent") for region, name in block["means"]]
        said.append(Statement(pick(rng, block["text"]), means))
    return said


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _tidy(text: str) -> str:
    """Return one space between words, none before a full stop, a capital at the start of a sentence."""
    text = " ".join(text.split()).replace(" .", ".").replace(" ,", ",")
    return _upper(text) if text.endswith(".") else text
