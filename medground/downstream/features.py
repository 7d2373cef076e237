"""Features of many images in one safetensors file, written row by row: resumable, with flat memory.

The number of images and the width of a feature give the header before the first image. So rows are appended
to FILE.partial, and a later run with the same header continues after the last complete row.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medground import checkpoints, output_files
from medground.data.feature_maps import FeatureMaps
from medground.data.prefetch import Prefetched
from medground.downstream.frozen_encoders import FrozenEncoder
from medground.errors import MedgroundError
from medground.models import letterboxed
from medground.output_files import PARTIAL

NAME = "features"
BYTES = 4  # of a float32
Features = NDArray[np.float32]


def write(
    path: Path,
    encoder: FrozenEncoder,
    paths: Sequence[str],
    about: dict[str, Any],
    folder: Path,
    batch_size: int = 16,
    maps: FeatureMaps | None = None,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> None:
    """Write the (N, D) features of the images at these paths below `folder`, unless the file has them.

    about: JSON values that identify them, for the header. maps: feature maps of the images, to take instead.
    Raises MedgroundError for a file with others.
    """
    if path.is_file():
        _check(path, about)
        return
    header = _header(len(paths), encoder.width, about)
    width = (len(header), encoder.width * BYTES)
    with output_files.locked(path) as target:
        partial = Path(target + PARTIAL)
        done = _rows_of(partial, header, width[1])
        with output_files.naming(path), open(partial, "r+b" if done else "wb") as stream:
            stream.truncate(width[0] + done * width[1] if done else 0)
            stream.seek(0, os.SEEK_END)
            if not done:
                stream.write(header)
            for rows in progress(_computed(encoder, paths[done:], folder, batch_size, maps)):
                stream.write(rows.tobytes())
                stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, target)


def _computed(
    encoder: FrozenEncoder, paths: Sequence[str], folder: Path, count: int, maps: FeatureMaps | None
) -> Iterator[Features]:
    """Yield the (B, D) features of each batch; the next batch is read meanwhile."""

    def pictures(start: int) -> torch.Tensor:
        own = paths[start : start + count]
        if maps is not None:
            return torch.stack([maps.get(each).picture() for each in own])
        return torch.stack([letterboxed.read(folder / each, encoder.size).picture() for each in own])

    for _, both in Prefetched(pictures, range(0, len(paths), count)):
        found = encoder(both[:, :-1], both[:, -1:]).numpy().astype("<f4")
        if not np.isfinite(found).all():
            raise MedgroundError("the encoder gave a feature that is not finite")
        yield found


def _header(count: int, width: int, about: dict[str, Any]) -> bytes:
    shape, size = [count, width], count * width * BYTES
    held = {
        "__metadata__": {checkpoints.KEY: json.dumps({"config": about}, sort_keys=True)},
        NAME: {"dtype": "F32", "shape": shape, "data_offsets": [0, size]},
    }
    text = json.dumps(held).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _rows_of(partial: Path, header: bytes, row: int) -> int:
    """Return the number of complete rows of an interrupted run with this header."""
    try:
        with partial.open("rb") as stream:
            if stream.read(len(header)) != header:
                return 0
        return (partial.stat().st_size - len(header)) // row
    except FileNotFoundError:
        return 0


def _check(path: Path, about: dict[str, Any]) -> None:
    held = checkpoints.read_config(path)
    if other := sorted(key for key in held.keys() | about.keys() if held.get(key) != about.get(key)):
        raise MedgroundError(f"{path}: features of another {other[0]}; name another file or delete it")


def read(path: Path) -> Features:
    """Return the (N, D) features; only the rows that are used are read from the disk."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        held = json.loads(stream.read(length))
    count, width = held[NAME]["shape"]
    if path.stat().st_size != 8 + length + count * width * BYTES:
        raise MedgroundError(f"{path}: truncated; delete it")
    if not count:
        return np.zeros((0, width), np.float32)
    return np.memmap(path, "<f4", "r", 8 + length, (count, width))
