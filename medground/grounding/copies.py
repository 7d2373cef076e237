"""PNG copies of images, of the same size, for tools that do not show DICOM files."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np
from PIL import Image

from medground import images, output_files
from medground.errors import MedgroundError
from medground.records import Grounding, Phrase


def write(
    answers: Iterable[tuple[Phrase, Grounding]], folder: Path, out: Path
) -> Iterator[tuple[Phrase, Grounding]]:
    """Write a copy of each image as OUT/<path>.png, and yield the phrases with the path of the copy.

    Raises MedgroundError for a path that leads out of the folder, and for two images with one copy.
    """
    copied: dict[str, str] = {}
    for path, group in itertools.groupby(answers, key=lambda answer: answer[0].path):
        name = _name(path)
        if name not in copied:
            _copy(folder / path, out / name)
        elif copied[name] != path:
            raise MedgroundError(f"{folder / path}: another image has the same copy, {out / name}")
        copied[name] = path
        for phrase, found in group:
            yield replace(phrase, path=name), found


def _name(path: str) -> str:
    """Return the path of the copy in its folder; of an absolute path, only the name."""
    pure = PurePath(path)
    own = PurePath(pure.name) if pure.is_absolute() else pure
    if ".." in own.parts:
        raise MedgroundError(f"{path}: leads out of the folder of images")
    return str(own.with_suffix(".png"))


def _copy(source: Path, target: Path) -> None:
    pixels = np.clip(np.nan_to_num(images.load(source)), 0, 1) * 255
    target.parent.mkdir(parents=True, exist_ok=True)
    with output_files.replacing(target, sync=False) as stream:
        Image.fromarray(pixels.round().astype(np.uint8)).save(stream, format="PNG")
