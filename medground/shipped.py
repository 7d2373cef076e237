"""The example models that are included in medground, for predictions without any training.

`examples/weights.mk` trains them again. They were trained on synthetic images only. They are no
medical devices.
"""

import logging
from pathlib import Path

FOLDER = Path(__file__).parent / "weights"
DETECTOR = FOLDER / "detector" / "model.safetensors"
GROUNDER = FOLDER / "grounder"
NOTICE = "the example model was trained on synthetic images only: not for clinical use"


def warn() -> None:
    """Log a warning about the example models."""
    logging.getLogger(__name__).warning(NOTICE)
