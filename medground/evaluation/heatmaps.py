"""The protocol `heatmap` (BioViL, GLoRIA): a heat map for each phrase against its boxes.

miou  the mean over t = .1, ..., .5 of IoU({heat map > t}, union of the boxes), then over phrases
cnr   |mean inside - mean outside| / sqrt(variance inside + variance outside); not in points of 100

Published figures are means over categories: the group `macro`. A file holds one (h, w) array for each phrase,
named by its phrase_id or by image_id/phrase_id, that covers the whole original image at any resolution:
npz or safetensors. The image-free prior's heat map is 1 in its box and 0 elsewhere.
"""

import hashlib
import logging
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medground.errors import MedgroundError
from medground.evaluation import metrics
from medground.evaluation.protocols import Figures, as_array
from medground.evaluation.stats.bootstrap import Array
from medground.evaluation.stats.figures import mean_over
from medground.records import Box, Phrase

log = logging.getLogger(__name__)
NUMBERS = "biuf"  # numpy's kinds of dtype that a heat map may have
# What numpy and zipfile raise on objects (never unpickled), cut-off, damaged and encrypted members.
DAMAGED = (
    *(ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError),
    *(tokenize.TokenError, SyntaxError, TypeError, KeyError, MemoryError, OSError),  # of a header's words
)


@dataclass(frozen=True)
class Maps:
    """The heat maps of a file, read one at a time; `digest` is the start of the file's SHA-256."""

    path: Path
    digest: str
    names: set[str]
    get: Callable[[str], Any]

    def check(self, known: Iterable[Phrase], scored: Iterable[Phrase]) -> None:
        """Raise for a heat map that is of no known phrase or of several; warn of scored ones without one."""
        asked = Counter(map(self.name_of, known))
        if unknown := sorted(self.names - asked.keys()):
            raise MedgroundError(f"{self.path}: {unknown[0]}: the truth has no such phrase")
        if several := sorted(name for name, times in asked.items() if name is not None and times > 1):
            raise MedgroundError(
                f"{self.path}: {several[0]}: more than one phrase of the truth; name it image_id/phrase_id"
            )
        if None in map(self.name_of, scored):
            log.warning("%s: phrases without a heat map count as 0", self.path)

    def name_of(self, phrase: Phrase) -> str | None:
        """The name of the phrase's heat map, None where it has none."""
        both = f"{phrase.image_id}/{phrase.phrase_id}"
        return next((name for name in (both, phrase.phrase_id) if name in self.names), None)

    def of(self, phrase: Phrase) -> Array | None:
        """The (h, w) heat map of a phrase, None where there is none; raises where it is no heat map."""
        name = self.name_of(phrase)
        if name is None:
            return None
        try:
            found = np.asarray(self.get(name))
        except DAMAGED:
            raise MedgroundError(f"{self.path}: {name}: cannot be read as an array of numbers") from None
        if found.dtype.kind not in NUMBERS or found.ndim != 2 or not found.size:
            raise MedgroundError(f"{self.path}: {name}: expected finite numbers in two dimensions")
        found = found.astype(float)
        if not np.isfinite(found).all():
            raise MedgroundError(f"{self.path}: {name}: expected finite numbers in two dimensions")
        return found


@contextmanager
def opened(path: Path) -> Iterator[Maps]:
    """The heat maps of a file that stays open for the block; raises where it is none of the two kinds."""
    if path.suffix not in (".npz", ".safetensors") or not path.is_file():
        raise MedgroundError(f"{path}: the protocol heatmap reads an .npz or .safetensors file")
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()[:12]
    with _npz(path) if path.suffix == ".npz" else _safetensors(path) as file:
        get = file.__getitem__ if path.suffix == ".npz" else partial(_tensor, path, file)
        yield Maps(path, digest, set(file.keys()), get)


def _npz(path: Path) -> Any:
    try:
        file = np.load(path, allow_pickle=False)
    except DAMAGED:
        file = None
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise MedgroundError(f"{path}: not an npz file")
    return file


def _safetensors(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="numpy")
    except SafetensorError:
        raise MedgroundError(f"{path}: not a safetensors file") from None


def _tensor(path: Path, file: Any, name: str) -> Any:
    """The tensor as an array; bfloat16 and the like, which numpy does not have, as float32."""
    if not file.get_slice(name).get_dtype().startswith(("BF", "F8")):
        return file.get_tensor(name)
    from safetensors import safe_open

    with safe_open(path, framework="pt") as again:
        return again.get_tensor(name).float().numpy()


@dataclass(frozen=True, slots=True)
class Found:
    """What the heat maps get right on each phrase: IoU, and contrast (None where it has no value)."""

    ious: list[float]
    contrasts: list[float | None]

    def figures(self) -> Figures:
        """The metrics over all phrases."""
        return {"miou": mean_over(self.ious), "cnr": mean_over(self.contrasts)}


def measure(phrases: Sequence[Phrase], maps: Maps) -> Found:
    """What the heat maps get right on phrases that have boxes and sizes; 0 without a heat map."""
    pairs = [_right(phrase, maps.of(phrase)) for phrase in phrases]
    return Found([iou for iou, _ in pairs], [contrast for _, contrast in pairs])


def _right(phrase: Phrase, heatmap: Array | None) -> tuple[float, float | None]:
    if heatmap is None:
        return 0.0, 0.0
    true = as_array(phrase.boxes or [])
    shares = metrics.covered_shares(true, phrase.width or 1, phrase.height or 1, heatmap.shape)
    return metrics.heatmap_iou(heatmap, shares), metrics.contrast_to_noise(heatmap, shares)


def box_figures(phrases: Sequence[Phrase], found: Sequence[Box]) -> Figures:
    """The same for heat maps that are 1 in one box and 0 elsewhere, from areas."""
    pairs = [(p, as_array([box]), as_array(p.boxes or [])) for p, box in zip(phrases, found, strict=True)]
    return {
        "miou": mean_over([metrics.union_iou(box, true) for _, box, true in pairs]),
        "cnr": mean_over([_box_contrast(box, true, _area(phrase)) for phrase, box, true in pairs]),
    }


def _area(phrase: Phrase) -> float:
    return (phrase.width or 1) * (phrase.height or 1)


def _box_contrast(box: Array, true: Array, whole: float) -> float | None:
    both, _ = metrics.union_overlap(box, true)
    within, found = metrics.union_area(true), metrics.union_area(box)
    if within >= whole:
        return None
    inside, outside = both / within, (found - both) / (whole - within)
    return metrics.noise_ratio(abs(inside - outside), inside * (1 - inside) + outside * (1 - outside))
