"""Feature maps of a frozen image encoder, computed once for each image and mapped into memory.

FOLDER/maps.json    the hash of the encoder, the side of its images, and the shape of a map
FOLDER/maps.f16     a row per image: its (C, h, w) map in half precision
FOLDER/maps.jsonl   a line per row: path, width and height of the image, size and time of its file

Rows are appended batch by batch, the lines after their maps. An interrupted run is continued after the last
complete row. The last row of an image counts: a file of another size or time than its row gets a new one.
Letters: B images, C channels, S side of the letterboxed square, h x w patches.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from numpy.typing import NDArray
from torch import Tensor

from medground import locks, output_files, strict_json
from medground.boxes import Letterbox
from medground.data.prefetch import Prefetched
from medground.errors import BadRecord, MedgroundError
from medground.models import letterboxed, stages
from medground.models.network import Network

log = logging.getLogger(__name__)
CONFIG, MAPS, LINES = "maps.json", "maps.f16", "maps.jsonl"
FORMAT, BYTES = 2, 2
TOGETHER = 16  # images per batch


@dataclass(frozen=True)
class MappedImage:
    """An image by its feature map, in the place of a `LetterboxedImage` in batches."""

    features: NDArray[np.float16]
    visible: Tensor
    letterbox: Letterbox

    def picture(self) -> Tensor:
        """Return (C + 1, h, w): the map, and 1 on patches of the image, 0 on those of the padding."""
        return torch.cat([torch.from_numpy(self.features.astype(np.float32)), self.visible[None]])

    def sized(self, width: int | None, height: int | None, path: Path | str, whose: str) -> "MappedImage":
        """Return the image with boxes in pixels of a record, as `LetterboxedImage.sized`."""
        found = letterboxed.sized(self.letterbox, width, height, path, whose)
        return replace(self, letterbox=found)


class FeatureMaps:
    """The maps of the images under a folder, as a store for batches; `add` computes missing ones.

    early: the maps are those before the encoder's last stage, which may change.
    Raises MedgroundError for a folder with maps of another encoder or size.
    """

    def __init__(self, folder: Path, images: Path, network: Network, size: int, early: bool = False):
        self.folder, self.images, self.network, self.size = folder, images, network, size
        device = next(network.image_encoder.parameters()).device
        empty = torch.zeros(1, 1, size, size, device=device)
        self._map = network.early_maps if early else network.maps
        network.eval()
        with torch.inference_mode():
            self.shape: tuple[int, ...] = tuple(self._map(empty, empty).shape[1:])
        self._about = {
            "format": FORMAT,
            "encoder": encoder_hash(network, early),
            "size": size,
            "shape": self.shape,
        }
        self._visible: dict[Letterbox, Tensor] = {}
        self._rows: dict[str, tuple[int, Letterbox]] = {}
        self._files: dict[str, tuple[int, int]] = {}  # size and time of the file of each row
        self._maps: NDArray[np.float16] = np.zeros((0, *self.shape), np.float16)
        if folder.exists():
            self._open()

    def __contains__(self, path: str) -> bool:
        return path in self._rows

    def get(self, path: str) -> MappedImage:
        """Return the map of an image; raise MedgroundError if it was not added."""
        if path not in self._rows:
            raise MedgroundError(f"{self.images / path}: no feature map in {self.folder}")
        row, letterbox = self._rows[path]
        if letterbox not in self._visible:
            inside = letterboxed.mask(letterbox)
            self._visible[letterbox] = self.network.visible(inside, *self.shape[1:])[0].float()
        return MappedImage(self._maps[row], self._visible[letterbox], letterbox)

    def require(self, paths: Iterable[str]) -> None:
        """Raise MedgroundError if an image has no map."""
        for path in paths:
            if path not in self._rows:
                raise MedgroundError(f"{self.images / path}: no feature map in {self.folder}")

    def add(self, paths: Iterable[str], progress: Callable[[Iterable[Any], int], Iterable[Any]]) -> None:
        """Compute the maps of the images that have none, or whose file has changed since.

        `progress` wraps batches, given their number. A warning counts the changed images. Several processes
        read a complete folder at once; only one at a time adds maps.
        """
        wanted = list(dict.fromkeys(paths))
        if all(path in self._rows and not self._is_changed(path) for path in wanted):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with locks.hold(self.folder):
            self._open()
            changed = [path for path in wanted if path in self._rows and self._is_changed(path)]
            if changed:
                log.warning(
                    "%s: %d images have changed: their maps are computed again", self.folder, len(changed)
                )
            missing = [*(path for path in wanted if path not in self._rows), *changed]
            if missing:
                _put(self.folder / CONFIG, self._about)
                with output_files.keeping(self.folder, "earlier maps are kept"):
                    self._append(progress(self._computed(missing), -(-len(missing) // TOGETHER)))
                self._open()

    def _is_changed(self, path: str) -> bool:
        """Return whether the file of an image has another size or time than its row; False without a file."""
        file = self.images / path
        return file.exists() and _stated(file) != self._files[path]

    def _open(self) -> None:
        """Read what the folder holds, without an incomplete last row."""
        if not (self.folder / CONFIG).exists():
            return
        held = _config(self.folder / CONFIG)
        for name, value in self._about.items():
            if held.get(name) != (list(value) if isinstance(value, tuple) else value):
                raise MedgroundError(f"{self.folder}: feature maps of another {name}; name another folder")
        row, path = int(np.prod(self.shape)) * BYTES, self.folder / MAPS
        lines = list(_lines(self.folder / LINES))
        count = min(len(lines), path.stat().st_size // row if path.exists() else 0)
        for number, line in enumerate(lines[:count]):
            box = Letterbox(line["width"], line["height"], self.size)
            self._rows[line["path"]] = (number, box)
            self._files[line["path"]] = line["bytes"], line["modified"]
        if count:
            self._maps = np.memmap(path, "<f2", "r", 0, (count, *self.shape))

    def _append(self, batches: Iterable[tuple[Sequence[bytes], bytes]]) -> None:
        """Append lines and maps, after the complete rows."""
        count, row = len(self._maps), int(np.prod(self.shape)) * BYTES
        lines = (self.folder / LINES).read_bytes().splitlines(True)[:count] if count else []
        with open(self.folder / MAPS, "ab") as maps, open(self.folder / LINES, "ab") as index:
            maps.truncate(count * row)
            index.truncate(sum(map(len, lines)))
            for own, rows in batches:
                maps.write(rows)
                maps.flush()
                index.writelines(own)
                index.flush()
            os.fsync(maps.fileno())

    def _computed(self, paths: Sequence[str]) -> Iterator[tuple[Sequence[bytes], bytes]]:
        """Yield the lines and the bytes of the maps of each batch; the next batch is read meanwhile."""
        device = next(self.network.image_encoder.parameters()).device

        def read(start: int) -> list[tuple[tuple[int, int], letterboxed.LetterboxedImage]]:
            files = [self.images / each for each in paths[start : start + TOGETHER]]
            return [(_stated(file), letterboxed.read(file, self.size)) for file in files]

        for start, found in Prefetched(read, range(0, len(paths), TOGETHER)):
            both = torch.stack([each.picture() for _, each in found]).to(device)
            with torch.inference_mode():
                maps = self._map(both[:, :1], both[:, 1:]).half().cpu().numpy()
            if not np.isfinite(maps).all():
                raise MedgroundError("the image encoder gave a feature that half precision cannot hold")
            own = zip(paths[start : start + TOGETHER], found, strict=True)
            lines = [_line(path, stated, each.letterbox) for path, (stated, each) in own]
            yield lines, maps.astype("<f2").tobytes()


def encoder_hash(network: Network, early: bool = False) -> str:
    """Return 12 hex digits of the SHA-256 of the image encoder and of how images are scaled for it.

    early: of the stages before the last one only.
    """
    how = (network.equalise, list(network.grey or ()), network.padding == "mean")
    found = hashlib.sha256(repr(how).encode())
    values = network.image_encoder.state_dict()
    if early:
        parts = enumerate(stages.frozen(network.image_encoder))
        values = {
            f"early.{n}.{name}": value for n, part in parts for name, value in part.state_dict().items()
        }
    for name, value in sorted(values.items()):
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:12]


def _stated(file: Path) -> tuple[int, int]:
    known = file.stat()
    return known.st_size, known.st_mtime_ns


def _line(path: str, stated: tuple[int, int], letterbox: Letterbox) -> bytes:
    size, time = stated
    line = {"path": path, "width": letterbox.width, "height": letterbox.height}
    line |= {"bytes": size, "modified": time}
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the complete lines of the file."""
    whole = path.read_bytes() if path.exists() else b""
    for number, line in enumerate(whole[: whole.rfind(b"\n") + 1].splitlines()):
        try:
            yield orjson.loads(line)
        except ValueError:
            raise MedgroundError(f"{path}:{number + 1}: damaged; delete the folder") from None


def _config(path: Path) -> dict[str, Any]:
    try:
        found = strict_json.config(path)
    except BadRecord:
        found = None
    if not isinstance(found, dict):
        raise MedgroundError(f"{path}: damaged; delete the folder")
    return found


def _put(path: Path, about: dict[str, Any]) -> None:
    with output_files.replacing(path) as stream:
        stream.write(orjson.dumps(about, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
