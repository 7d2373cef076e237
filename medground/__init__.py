"""medground: phrase grounding in chest X-rays.

    >>> import medground
    >>> model = medground.load()
    >>> model.predict("image.png", ["right lower lobe opacity"])

The functions and the records are loaded on first use, so that `import medground` takes no time.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medground.api import GroundingModel, align, detect, load, parse, read, records_from, rows, write
    from medground.errors import MedgroundError
    from medground.records import (
        Anatomy,
        Grounding,
        Image,
        Pair,
        Phrase,
        Region,
        Report,
        Score,
        ScoredBox,
        Sentence,
        Triplet,
    )

__version__ = "0.3.0"
FUNCTIONS = ("load", "parse", "detect", "align", "read", "write", "rows", "records_from")
RECORDS = (
    *("Report", "Sentence", "Triplet", "Image", "Anatomy", "Region"),
    *("Pair", "Phrase", "Grounding", "ScoredBox", "Score"),
)
_MODULES = dict.fromkeys((*FUNCTIONS, "GroundingModel"), "medground.api") | dict.fromkeys(
    RECORDS, "medground.records"
)
_MODULES |= {"MedgroundError": "medground.errors"}
__all__ = [  # noqa: RUF022
    "load",
    "GroundingModel",
    "parse",
    "detect",
    "align",
    "read",
    "write",
    "rows",
    "records_from",
    "Report",
    "Sentence",
    "Triplet",
    "Image",
    "Anatomy",
    "Region",
    "Pair",
    "Phrase",
    "Grounding",
    "ScoredBox",
    "Score",
    "MedgroundError",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module 'medground' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
