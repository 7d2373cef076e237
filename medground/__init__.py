"""medground: phrase grounding in chest X-rays.

    >>> import medground
    >>> model = medground.load()
    >>> model.predict("image.png", ["right lower lobe opacity"])

The functions and the records are loaded on first use, so that `import medground` takes no time.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medground.api import align, detect
    from medground.errors import MedgroundError
    from medground.evaluation import evaluate
    from medground.grounding.loading import load
    from medground.grounding.model import GroundingModel
    from medground.record_files import read, records_from, rows, write
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
    from medground.reports.parse import parse

__version__ = "0.3.0"
_MODULES = {
    "load": "grounding.loading",
    "GroundingModel": "grounding.model",
    "parse": "reports.parse",
    "detect": "api",
    "align": "api",
    "evaluate": "evaluation",
    "read": "record_files",
    "write": "record_files",
    "rows": "record_files",
    "records_from": "record_files",
    "MedgroundError": "errors",
}
__all__ = [  # noqa: RUF022
    "load",
    "GroundingModel",
    "parse",
    "detect",
    "align",
    "evaluate",
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
    if name not in __all__:
        raise AttributeError(f"module 'medground' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"medground.{_MODULES.get(name, 'records')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, also those that are not loaded yet."""
    return sorted({*globals(), *__all__})
