"""The way of evaluate that asks a model itself: --probes."""

from pathlib import Path
from typing import Any

from medground.cli import options


def evaluate(model: Path, images: Path, device: str, inputs: Any, how: Any) -> Any:
    """The evaluation of what the model in this folder answers when its images and words are changed."""
    from medground import images as image_files
    from medground.evaluation import run
    from medground.grounding import backends, calibration, flip, ground_on_image
    from medground.grounding.predict import PredictOptions
    from medground.models import letterboxed

    network = backends.load(model, options.device_of(device))
    upright = flip.load(model, network.name)
    choices = PredictOptions(calibration=calibration.load(model, network.name), orientation=upright)

    def ground(phrases: list[Any], image: Any) -> list[Any]:
        return list(
            ground_on_image(phrases, letterboxed.of(image, network.config.image_size), network, choices)
        )

    return run.evaluate_probes(inputs, lambda path: image_files.load(images / path), ground, how)
