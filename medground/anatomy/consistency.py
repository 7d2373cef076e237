"""Anatomical sanity: rules for the boxes of any frontal image, from any source.

The rules are in `consistency.toml`. They need no ground truth, so they measure detectors on images without
annotation. "Left" is the patient's left, the right half of the image.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from medground import boxes
from medground.anatomy import regions
from medground.records import Box

Boxes = Mapping[str, Box]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; the kinds are explained in consistency.toml."""

    kind: str
    first: str
    second: str
    third: str | None = None
    share: float = 0.0

    @property
    def name(self) -> str:
        """The rule in words: "carina on trachea"."""
        words = f"{self.first} {self.kind} {self.second}"
        return f"{words} and {self.third}" if self.third else words

    def holds(self, found: Boxes) -> bool | None:
        """Return whether the boxes follow the rule; None if one of its regions has no box."""
        names = [each for each in (self.first, self.second, self.third) if each]
        if any(name not in found for name in names):
            return None
        return KINDS[self.kind](self, *(found[name] for name in names))


@cache
def rules() -> tuple[Rule, ...]:
    """Return every rule: left and right first, then those of the table, in its order."""
    pairs = [each for each in regions.NAMES if each.startswith("left ") and regions.mirror(each) != each]
    found = [Rule("right of", each, regions.mirror(each)) for each in pairs]
    text = resources.files("medground.anatomy").joinpath("consistency.toml").read_text(encoding="utf-8")
    for entry in tomllib.loads(text)["rule"]:
        for side in ("right", "left") if "SIDE" in entry["first"] else ("",):
            found.append(Rule(**{key: _on(side, value) for key, value in entry.items()}))
    return tuple(found)


def _on(side: str, value: Any) -> Any:
    return value.replace("SIDE", side) if isinstance(value, str) else value


def _middle(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _right_of(rule: Rule, first: Box, second: Box) -> bool:
    return _middle(first)[0] > _middle(second)[0]


def _above(rule: Rule, first: Box, second: Box) -> bool:
    return _middle(first)[1] < _middle(second)[1]


def _inside(rule: Rule, first: Box, second: Box) -> bool:
    return _common(first, second) >= rule.share * (first[2] - first[0]) * (first[3] - first[1])


def _common(first: Box, second: Box) -> float:
    """Return the area that both boxes cover."""
    x1, y1, x2, y2 = second
    both = boxes.clip((first[0] - x1, first[1] - y1, first[2] - x1, first[3] - y1), x2 - x1, y2 - y1)
    return (both[2] - both[0]) * (both[3] - both[1]) if both else 0.0


def _on_it(rule: Rule, first: Box, second: Box) -> bool:
    return second[0] <= _middle(first)[0] <= second[2] and _common(first, second) > 0


def _between(rule: Rule, first: Box, second: Box, third: Box) -> bool:
    return _middle(second)[0] < _middle(first)[0] < _middle(third)[0]


KINDS: dict[str, Callable[..., bool]] = {
    "right of": _right_of,
    "above": _above,
    "inside": _inside,
    "on": _on_it,
    "between": _between,
}
