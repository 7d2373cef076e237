"""What is known of each finding: a sentence that says how it looks, and the regions in which it lies.

The table is `knowledge.toml`, in words of our own. Findings are named as in `reports/lexicons/findings.toml`.
"""

import tomllib
from importlib import resources
from typing import Any


def _table() -> dict[str, Any]:
    text = resources.files("medground.objectives").joinpath("knowledge.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


_TABLE = _table()
_FINDINGS = _TABLE["finding"]

NAMES: tuple[str, ...] = tuple(each["name"] for each in _FINDINGS)
"""The findings that are known, in the order of every tensor."""

TEXTS: tuple[str, ...] = tuple(each["text"] for each in _FINDINGS)
"""One sentence for each of them."""

REGIONS: tuple[tuple[str, ...], ...] = tuple(
    tuple(name for group in each["in"] for name in _TABLE["group"][group]) for each in _FINDINGS
)
"""The names of the regions in which each of them lies."""
