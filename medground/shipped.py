"""The example models that come with medground, so that it answers without any training.

`examples/weights.mk` makes them again. They have seen synthetic films alone, and are no medical devices.
"""

from pathlib import Path

FOLDER = Path(__file__).parent / "weights"
DETECTOR = FOLDER / "detector" / "model.safetensors"
GROUNDER = FOLDER / "grounder"
NOTICE = "the example model has seen synthetic films alone: not for clinical use"
