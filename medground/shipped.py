"""The example models that are included in medground, for predictions without any training.

`examples/weights.mk` trains them again. The detector was trained on synthetic images only. The grounding
model and the view check were also trained on images of NIH ChestX-ray14: see docs/model-card.md. They are no
medical devices.
"""

import logging
from pathlib import Path

FOLDER = Path(__file__).parent / "weights"
DETECTOR = FOLDER / "detector" / "model.safetensors"
GROUNDER = FOLDER / "grounder"
VIEW = FOLDER / "view" / "model.xml"
NOTICE = "the example models were trained on synthetic and few public images: not for clinical use"


def warn() -> None:
    """Log a warning about the example models."""
    logging.getLogger(__name__).warning(NOTICE)
