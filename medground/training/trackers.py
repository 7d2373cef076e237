"""The trackers that accelerate can write losses for, by name. They are offline by default.

A tracker writes into the run folder, or where its own environment variables say. What the user has set in the
environment is kept, so WANDB_MODE=online sends losses to the server.
"""

import importlib.util
import os
from pathlib import Path
from typing import Any

from medground.errors import MedgroundError

NAMES = {  # the name in accelerate -> the package to install
    "tensorboard": "'medground[tensorboard]'",
    "wandb": "wandb",
    "mlflow": "mlflow",
    "aim": "aim",
    "clearml": "clearml",
    "comet_ml": "comet_ml",
    "dvclive": "dvclive",
    "swanlab": "swanlab",
    "trackio": "trackio",
}
OFFLINE = {  # environment variables; FOLDER is the run folder
    "wandb": {"WANDB_MODE": "offline", "WANDB_DIR": "FOLDER"},
    "mlflow": {"MLFLOW_TRACKING_URI": "sqlite:///FOLDER/mlflow.db"},
    "clearml": {"CLEARML_OFFLINE_MODE": "1"},
    "comet_ml": {"COMET_OFFLINE_DIRECTORY": "FOLDER/comet_ml"},
    "swanlab": {
        "SWANLAB_MODE": "offline",
        "SWANLAB_LOG_DIR": "FOLDER/swanlab",
        "SWANLAB_LOGDIR": "FOLDER/swanlab",
    },
    "trackio": {"TRACKIO_DIR": "FOLDER/trackio"},
}
COMET_ONLINE = "COMET_START_ONLINE"  # how the environment decides for comet_ml
PROJECT = "medground"


def require(tracker: str | None) -> None:
    """Raise MedgroundError if the tracker is not installed; accelerate would silently leave it out."""
    if tracker is not None and importlib.util.find_spec(tracker) is None:
        raise MedgroundError(f"--tracker {tracker} is not installed: pip install {NAMES[tracker]}")


def start(engine: Any, tracker: str, folder: Path) -> None:
    """Start the tracker of an accelerator, offline unless the environment is set otherwise."""
    for name, value in OFFLINE.get(tracker, {}).items():
        os.environ.setdefault(name, value.replace("FOLDER", str(folder.resolve())))
    offline = tracker == "comet_ml" and COMET_ONLINE not in os.environ
    engine.init_trackers(
        "tensorboard" if tracker == "tensorboard" else PROJECT,  # a folder of the run, or a project
        init_kwargs={tracker: {"online": False}} if offline else {},
    )
