"""A cache of decoded images: windowed, letterboxed squares with one byte per pixel, in memory-mapped files.

CACHE/cache.json        the side of the squares and the version of the format
CACHE/NAME-00000.npy    (n, S, S) uint8: up to 256 images, 105 MB at 640 px
CACHE/NAME-00000.jsonl  a line per row: path, width, height; size and time of the file; hash of the row

NAME is `images`, or `images-2of7` for the shard of one of several machines. The .jsonl of a part is written
last: a part without it is incomplete and is overwritten. Letters: S side of the square, n images of a part.
"""

import hashlib
import io
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from medground import images, locks, output_files, strict_json
from medground.boxes import Letterbox
from medground.errors import BadRecord, MedgroundError
from medground.models import letterboxed
from medground.parallel import ordered_map
from medground.records import Image

log = logging.getLogger(__name__)
CONFIG = "cache.json"
DIGITS = "[0-9]" * 5
COMPARED = 256  # files whose size is compared before a training
TOGETHER = 256  # images per part; a killed worker has to repeat one part


@dataclass(frozen=True, slots=True)
class CachedImage:
    """An image of a cache: its part and row, the size of the original, and the size and time of its file."""

    part: str
    number: int
    path: str
    width: int
    height: int
    bytes: int
    modified: int
    hash: str


class Cache:
    """The images of a cache folder; raises MedgroundError if it is no cache, or one of another size."""

    def __init__(self, folder: Path, size: int):
        self.folder, self.size = folder, size
        _check(folder, size)
        self._rows = {row.path: row for row in rows(folder)}
        self._parts: dict[str, NDArray[np.uint8]] = {}
        self._checked: set[str] = set()

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, path: str) -> bool:
        return path in self._rows

    def get(self, path: str) -> letterboxed.LetterboxedImage | None:
        """Return the image of a record's path, None if it is not in the cache."""
        row = self._rows.get(path)
        if row is None:
            return None
        if row.part not in self._parts:
            self._parts[row.part] = _squares(self.folder, row.part, self.size)
        part = self._parts[row.part]
        if row.number >= len(part):
            raise _damaged(self.folder / f"{row.part}.npy")
        square = np.array(part[row.number])
        if path not in self._checked and _hash(square) != row.hash:
            raise _damaged(self.folder / f"{row.part}.npy")
        self._checked.add(path)  # a hash takes longer than a copy: each image is checked once
        return letterboxed.LetterboxedImage(square, Letterbox(row.width, row.height, self.size))

    def compare(self, images: Path, paths: Iterable[str]) -> None:
        """Raise MedgroundError if files of these paths have other sizes than those that were cached.

        At most `COMPARED` files, evenly over the paths, are compared: a network file system is slow. Missing
        files are no problem. Times are not compared: copies of a file have others. `problems` compares all.
        """
        rows = [self._rows[path] for path in dict.fromkeys(paths) if path in self._rows]
        with ThreadPoolExecutor(16, "images") as pool:
            sampled = rows[:: -(-len(rows) // COMPARED) or 1]
            changed = [each for each in pool.map(lambda row: _resized(images, row), sampled) if each]
        if changed:
            raise MedgroundError(
                f"{images / changed[0]}: not the file that is in the cache {self.folder} ({len(changed)} of "
                f"{len(sampled)} compared are not); check --images and --cache, or make the cache again"
            )


def rows(folder: Path) -> Iterator[CachedImage]:
    """Yield the images of the folder's complete parts, in order; raise MedgroundError for an invalid line."""
    for file in sorted(folder.glob("images*.jsonl")):
        for number, line in enumerate(file.read_bytes().splitlines()):
            try:
                row = CachedImage(part=file.stem, number=number, **orjson.loads(line))
                if min(row.width, row.height) < 1:
                    raise ValueError("invalid image size")
            except (ValueError, TypeError):
                raise _damaged(file, number + 1) from None
            yield row


def _resized(images: Path, row: CachedImage) -> str | None:
    """Return the path of a row whose file has another size, None if it has the same or there is no file."""
    try:
        return row.path if (images / row.path).stat().st_size != row.bytes else None
    except OSError:
        return None


def _damaged(file: Path, line: int | None = None) -> MedgroundError:
    place = f"{file}:{line}" if line else str(file)
    return MedgroundError(f"{place}: missing or damaged; delete {file.stem}.* and make the cache again")


def _check(folder: Path, size: int) -> None:
    try:
        config = strict_json.config(folder / CONFIG)
    except (OSError, BadRecord):
        raise MedgroundError(f"{folder}: not an image cache ({CONFIG} is missing)") from None
    if not isinstance(config, dict) or config.get("format") != letterboxed.FORMAT:
        raise MedgroundError(f"{folder}: made by another version of medground; make the cache again")
    if config.get("size") != size:
        raise MedgroundError(f"{folder}: its images have {config.get('size')} px, expected {size} px")


def _squares(folder: Path, part: str, size: int) -> NDArray[np.uint8]:
    file = folder / f"{part}.npy"
    try:
        result: NDArray[np.uint8] = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        raise _damaged(file) from None
    if result.shape[1:] != (size, size) or result.dtype != np.uint8:
        raise _damaged(file)
    return result


def build(
    images: Iterable[Image],
    folder: Path,
    cache: Path,
    size: int,
    reject: Callable[[Image, MedgroundError], None],
    workers: int = 1,
    name: str = "images",
) -> int:
    """Add the missing images of `folder` to the cache; return the number of added images.

    Unreadable images go to `reject`, in order. The parts are the same for any number of workers.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with locks.hold(cache, f"{locks.OF_FOLDER}-{name}"):
        return _add(images, folder, cache, size, reject, workers, name)


def _add(
    images: Iterable[Image],
    folder: Path,
    cache: Path,
    size: int,
    reject: Callable[[Image, MedgroundError], None],
    workers: int,
    name: str,
) -> int:
    if (cache / CONFIG).exists():
        _check(cache, size)
    else:
        _write(cache / CONFIG, [json.dumps({"format": letterboxed.FORMAT, "size": size}).encode() + b"\n"])
    held = {row.path for row in rows(cache)}
    missing = list({each.path: each for each in images if each.path not in held}.values())
    starts = range(0, len(missing), TOGETHER)
    threads = max(1, workers // max(1, len(starts)))  # of each process, if there are fewer parts than workers
    tasks = [
        (folder, cache, _part_name(cache, name, number), size, threads, missing[first : first + TOGETHER])
        for number, first in enumerate(starts)
    ]
    advice = "run the same command again to continue, if need be with fewer --workers"
    made = ordered_map(_make, tasks, min(workers, len(tasks) or 1), advice)
    added = 0
    for task, problems in zip(tasks, made, strict=True):
        added += len(task[-1]) - len(problems)
        for row, problem in problems:
            reject(task[-1][row], MedgroundError(problem))
    return added


def _part_name(cache: Path, name: str, number: int) -> str:
    """Return the name of new part `number`; numbers continue after the existing parts."""
    numbers = [int(file.stem.rpartition("-")[2]) for file in cache.glob(f"{name}-{DIGITS}.jsonl")]
    return f"{name}-{max(numbers, default=-1) + 1 + number:05d}"


Task = tuple[Path, Path, str, int, int, Sequence[Image]]
Problems = list[tuple[int, str]]


def _make(task: Task) -> Problems:
    """Write one part; return the index and the problem of each unreadable image."""
    folder, cache, part, size, threads, images = task

    def read(image: Image) -> tuple[letterboxed.LetterboxedImage, bytes] | str:
        try:
            found = letterboxed.read(folder / image.path, size)
            return found, _line(folder, image.path, found)
        except (MedgroundError, OSError) as error:
            return str(error)

    if threads == 1:
        done = list(map(read, images))
    else:
        with ThreadPoolExecutor(threads) as pool:  # decoding and resizing run outside Python
            done = list(pool.map(read, images))
    problems = [(place, each) for place, each in enumerate(done) if isinstance(each, str)]
    made = [each for each in done if not isinstance(each, str)]
    if made:
        squares, lines = zip(*made, strict=True)
        _write(cache / f"{part}.npy", _npy([each.square for each in squares], size))
        _write(cache / f"{part}.jsonl", lines)
    return problems


def _line(folder: Path, path: str, found: letterboxed.LetterboxedImage) -> bytes:
    known = (folder / path).stat()
    about = {
        "path": path,
        "width": found.letterbox.width,
        "height": found.letterbox.height,
        "bytes": known.st_size,
        "modified": known.st_mtime_ns,
        "hash": _hash(found.square),
    }
    return orjson.dumps(about, option=orjson.OPT_APPEND_NEWLINE)


def _hash(square: NDArray[np.uint8]) -> str:
    return hashlib.blake2b(np.ascontiguousarray(square).data, digest_size=8).hexdigest()


def _npy(squares: Sequence[NDArray[np.uint8]], size: int) -> Iterator[bytes]:
    """Yield the bytes of an .npy file, image by image, to save memory."""
    header = io.BytesIO()
    shape = {"descr": "|u1", "fortran_order": False, "shape": (len(squares), size, size)}
    np.lib.format.write_array_header_1_0(header, shape)
    yield header.getvalue()
    yield from (each.tobytes() for each in squares)


def _write(file: Path, pieces: Iterable[bytes]) -> None:
    """Write the file; it has its name only when all of it is on the disk."""
    with output_files.keeping(file, "earlier parts are kept"), output_files.replacing(file) as stream:
        stream.writelines(pieces)


def problems(cache: Path, size: int, folder: Path, wanted: Iterable[Image]) -> Iterator[str]:
    """Yield a message for each missing image, damaged row, and image whose file has changed.

    Deleted files are no problem.
    """
    held = Cache(cache, size)
    for image in wanted:
        if image.path not in held:
            yield f"{image.path}: not in the cache"
    for row in held._rows.values():
        if problem := _problem(held, row, folder):
            yield problem


def _problem(held: Cache, row: CachedImage, folder: Path) -> str | None:
    place = f"{row.path} ({row.part}, row {row.number})"
    try:
        held.get(row.path)
    except MedgroundError:
        return f"{place}: damaged; delete {row.part}.* and make the cache again"
    file = folder / row.path
    if file.exists() and (file.stat().st_size, file.stat().st_mtime_ns) != (row.bytes, row.modified):
        return f"{place}: the image has changed; delete {row.part}.* and make the cache again"
    if file.exists() and images.size(file) != (row.width, row.height):
        return f"{place}: width or height damaged; delete {row.part}.* and make the cache again"
    return None
