"""What a tracker of losses needs; light, so that a command can ask before it reads anything."""

import importlib.util

from medground.errors import MedgroundError


def require(tracker: str | None) -> None:
    """Raise MedgroundError where the tracker is not installed: accelerate would leave it out in silence."""
    if tracker == "tensorboard" and importlib.util.find_spec("tensorboard") is None:
        raise MedgroundError("--tracker tensorboard needs TensorBoard: pip install 'medground[tensorboard]'")
