"""Names of models: `example`, a folder, or `hub:org/name` for an encoder of the Hugging Face hub."""

import re
from pathlib import Path

from medground import shipped
from medground.errors import MedgroundError

EXAMPLE, HUB = "example", "hub:"
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def grounder(name: str | Path) -> Path:
    """Return the folder of a grounding model; raise MedgroundError if there is none."""
    return shipped.GROUNDER if str(name) == EXAMPLE else folder(name)


def detector(name: str | Path) -> Path:
    """Return the weights file of a detector given by its folder, or what transformers and YOLO saved.

    Raise MedgroundError if there is no such file or folder.
    """
    if str(name) == EXAMPLE:
        return shipped.DETECTOR
    path = Path(name)
    if not path.exists():
        raise MedgroundError(f"no such file or folder: {name}")
    if (path / "model" / "config.json").is_file():  # a run folder of train-detector --detector transformers
        return path / "model"
    ours = path / shipped.DETECTOR.name
    return ours if ours.is_file() and not (path / "config.json").exists() else path


def folder(name: str | Path) -> Path:
    """Return the folder; for the weights file inside it, the folder around it."""
    path = Path(name)
    if path.name == shipped.DETECTOR.name and path.is_file():
        return path.parent
    if not path.is_dir():
        raise MedgroundError(f"no such folder: {name}")
    return path


def encoder(name: str) -> str:
    """Return the folder or hub name that transformers takes; raise MedgroundError for a missing folder.

    The hub is used only for names with the prefix `hub:`.
    """
    if name.startswith(HUB):
        return name.removeprefix(HUB)
    if not Path(name).is_dir():
        hint = f"; for a model of the Hugging Face hub write {HUB}{name}" if HUB_NAME.fullmatch(name) else ""
        raise MedgroundError(f"no such folder: {name}{hint}")
    return name
