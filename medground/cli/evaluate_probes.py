"""evaluate --probes: run the model on changed images and phrases."""

from pathlib import Path
from typing import Any

from medground.cli import options


def evaluate(model: Path, images: Path, device: str, inputs: Any, how: Any) -> Any:
    """Return the evaluation of the model in this folder on changed images and phrases."""
    from medground import images as image_files
    from medground.evaluation import run
    from medground.grounding.model import load

    ground = load(model, device=options.device_of(device)).ground_pixels
    return run.evaluate_probes(inputs, lambda path: image_files.load(images / path), ground, how)
