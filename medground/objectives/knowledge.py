"""Medical knowledge of findings: a sentence on the appearance of each, and the regions of its location.

`knowledge.toml` has the table, written for this package. Names are those of `reports/lexicons/findings.toml`.
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
"""The findings, in the order of tensors."""

TEXTS: tuple[str, ...] = tuple(each["text"] for each in _FINDINGS)
"""One sentence per finding."""

REGIONS: tuple[tuple[str, ...], ...] = tuple(
    tuple(name for group in each["in"] for name in _TABLE["group"][group]) for each in _FINDINGS
)
"""The names of the regions of each finding."""
