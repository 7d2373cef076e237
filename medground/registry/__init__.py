"""The tables of everything that has a name on the command line; no torch is imported.

The command line reads the names and the help texts. The code that builds things reads the targets. A target
is "module:attribute" and is imported when it is used.

Other packages add entries through entry points. The group is the table's. The name is the entry's. The value
leads to an entry, or to a string "module:attribute" that leads to one. In pyproject.toml:

    [project.entry-points."medground.objectives"]
    center = "my_package:CENTER"

and in my_package/__init__.py:

    CENTER = medground.registry.Objective(target="my_package.center:Center", help="...", ...)

The module that holds the entry is imported for --help: it should import only `medground.registry`.
"""

from medground.registry.checks import check_losses
from medground.registry.datasets import DATASETS
from medground.registry.entries import (
    Architecture,
    Dataset,
    Detector,
    Entry,
    Loss,
    MaskFormat,
    ModelAdapter,
    Objective,
    OutputFormat,
    PredictionFormat,
    Protocol,
    Table,
    attribute,
    one_of,
)
from medground.registry.model_adapters import MODEL_ADAPTERS
from medground.registry.objectives import FINETUNE, OBJECTIVES, PRETRAIN
from medground.registry.tables import (
    ARCHITECTURES,
    DETECTORS,
    MASK_FORMATS,
    OUTPUT_FORMATS,
    PREDICTION_FORMATS,
    PROTOCOLS,
)

__all__ = [
    "ARCHITECTURES",
    "DATASETS",
    "DETECTORS",
    "FINETUNE",
    "MASK_FORMATS",
    "MODEL_ADAPTERS",
    "OBJECTIVES",
    "OUTPUT_FORMATS",
    "PREDICTION_FORMATS",
    "PRETRAIN",
    "PROTOCOLS",
    "Architecture",
    "Dataset",
    "Detector",
    "Entry",
    "Loss",
    "MaskFormat",
    "ModelAdapter",
    "Objective",
    "OutputFormat",
    "PredictionFormat",
    "Protocol",
    "Table",
    "attribute",
    "check_losses",
    "one_of",
]
