"""Statements of groundings about the model that made them, as text."""

from collections.abc import Mapping
from typing import Any


def described(extra: Mapping[str, Any]) -> str:
    """Return the key `calibrated` of a record as text: "score, present on NAME"; "" without a calibration."""
    parts = extra.get("calibrated")
    if not isinstance(parts, dict):  # of another version
        return "yes" if parts else ""
    of_data = {data: [name for name in parts if parts[name] == data] for data in parts.values()}
    return "; ".join(f"{', '.join(names)} on {data}" for data, names in of_data.items())
