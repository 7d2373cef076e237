"""Heat map files: .npz or .safetensors with an array for each phrase, or .npy files, read one at a time.

The name of an .npy file is that of its array, as scripts for BioViL of hi-ml write them: a folder of
PHRASE_ID.npy or IMAGE_ID/PHRASE_ID.npy, or one file.
"""

import hashlib
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medground import archives, arrays
from medground.errors import MedgroundError

# Errors of numpy and zipfile for objects (never unpickled) and for truncated, corrupt and encrypted members.
DAMAGED = (
    *(ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError),
    *(tokenize.TokenError, SyntaxError, TypeError, KeyError, MemoryError, OSError),  # of a header's words
)


class HeatmapFile(Mapping[str, Any]):
    """The arrays of an open file by name; `digest` is the first part of the SHA-256 of its files."""

    def __init__(
        self, path: Path, names: Iterable[str], get: Callable[[str], Any], files: Sequence[Path] = ()
    ):
        self.name, self._names, self._get = str(path), dict.fromkeys(names), get
        self.digest = _digest(files or [path])

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        try:
            return np.asarray(self._get(name))
        except MedgroundError:
            raise
        except DAMAGED:
            place = f"array {list(self._names).index(name) + 1}"
            raise MedgroundError(f"{self.name}: {place}: cannot be read as an array of numbers") from None

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@contextmanager
def opened(path: Path) -> Iterator[HeatmapFile]:
    """Yield the heat maps of a file, which stays open for the block. Raises for a file of another kind."""
    if path.is_dir() or (path.suffix == arrays.SUFFIX and path.is_file()):
        yield _npy(path)
        return
    if path.suffix not in (".npz", ".safetensors") or not path.is_file():
        raise MedgroundError(
            f"{path}: heat maps are an .npz or .safetensors file, an .npy file or a folder of them"
        )
    if path.suffix == ".npz":
        with _npz(path) as archive:
            yield HeatmapFile(path, arrays.names(archive), partial(arrays.member, archive, place=path))
    else:
        with _safetensors(path) as file:
            yield HeatmapFile(path, file.keys(), partial(_tensor, path, file))


def _digest(files: Sequence[Path]) -> str:
    """Return the first digits of the SHA-256 of a file; of several, of their digests."""
    found = []
    for path in files:
        with path.open("rb") as stream:
            found.append(hashlib.file_digest(stream, "sha256").hexdigest())
    whole = found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()
    return whole[:12]


def _npy(path: Path) -> HeatmapFile:
    """Return the heat maps of an .npy file, or of all in a folder."""
    folder = path if path.is_dir() else path.parent
    files = sorted(path.rglob(f"*{arrays.SUFFIX}")) if path.is_dir() else [path]
    if not files:
        raise MedgroundError(f"{path}: no {arrays.SUFFIX} file in this folder")
    named = {each.relative_to(folder).as_posix().removesuffix(arrays.SUFFIX): each for each in files}
    return HeatmapFile(path, named, lambda name: arrays.mapped(named[name]), files)


def _npz(path: Path) -> zipfile.ZipFile:
    try:
        return archives.opened(path)
    except DAMAGED:
        raise MedgroundError(f"{path}: not an npz file") from None


def _safetensors(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="numpy")
    except SafetensorError:
        raise MedgroundError(f"{path}: not a safetensors file") from None


def _tensor(path: Path, file: Any, name: str) -> Any:
    """Return the tensor as an array; types that numpy lacks, such as bfloat16, become float32."""
    arrays.check_shape(path, tuple(file.get_slice(name).get_shape()), itemsize=1)
    if not file.get_slice(name).get_dtype().startswith(("BF", "F8")):
        return file.get_tensor(name)
    from safetensors import safe_open

    with safe_open(path, framework="pt") as again:
        return again.get_tensor(name).float().numpy()
