"""Graphs of OpenVINO, which compute a network on a CPU without torch."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medground import threads
from medground.compat import import_openvino
from medground.errors import MedgroundError
from medground.models import graph_files

CONSTANT = re.compile(rb'offset="(\d+)" size="(\d+)"')  # of a graph's file: where its weights file has it
SMALL = 384  # pixels: the side of a small square
GAP = 1 << 16  # bytes: shorter gaps between parts of a file are read, too


def openvino() -> Any:
    """Return the package; raise MedgroundError if it cannot be imported."""
    try:
        return import_openvino()
    except ImportError:
        raise MedgroundError("exports need OpenVINO: pip install openvino") from None


@dataclass(frozen=True)
class Source:
    """The file of a graph, read and checked.

    shared: a file with some of the graph's weights. Its bytes come before those of the graph's own file.
    weights: those bytes, None if the graph has all its weights.
    """

    path: Path
    shared: Path | None
    content: bytes
    weights: NDArray[np.uint8] | None

    def compiled(self, core: Any, side: int, precision: str = "f32") -> Any:
        """Return the graph, for squares of this side, compiled by a `Core` of OpenVINO for the CPU.

        Raises RuntimeError if the graph is damaged.
        """
        how = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads.for_square(side),
            "PERFORMANCE_HINT": "LATENCY",
        }
        if self.weights is None:
            return _compiled(core, str(self.path), how, side)
        weights = openvino().Tensor(self.weights, shared_memory=True)
        found = _compiled(core, core.read_model(self.content, weights), how, side)
        found.weights = self.weights  # OpenVINO reads this memory as long as the graph is used
        return found


def _compiled(core: Any, model: Any, how: dict[str, Any], side: int) -> Any:
    """Return the compiled graph, without kernels for chains of small operations if squares are small.

    On them such kernels save less time than it takes to make them.
    """
    if side <= SMALL:
        with contextlib.suppress(RuntimeError):  # a version of OpenVINO without this property
            return core.compile_model(model, "CPU", how | {"SNIPPETS_MODE": "DISABLE"})
    return core.compile_model(model, "CPU", how)


def read(path: Path, shared: Path | None = None) -> Source:
    """Return the file of a graph; shared: see `Source`.

    Raises MedgroundError for operations of no network, and RuntimeError if `shared` gets shorter meanwhile.
    """
    content = graph_files.read(path)
    weights = None if shared is None else _weights(content, shared, path.with_suffix(".bin"))
    return Source(path, shared, content, weights)


def _weights(content: bytes, shared: Path, own: Path) -> NDArray[np.uint8]:
    """Return the bytes of both files, but 0 in parts of `shared` that this graph does not use."""
    size, held = shared.stat().st_size, own.read_bytes()
    both = np.zeros(size + len(held), np.uint8)  # parts that are not written take no memory
    both[size:] = np.frombuffer(held, np.uint8)
    with shared.open("rb", buffering=0) as stream:
        for first, last in _used(content, size):
            stream.seek(first)
            if stream.readinto(both[first:last].data) != last - first:
                raise RuntimeError(f"{shared}: cannot be read")
    return both


def _used(content: bytes, size: int) -> Iterator[tuple[int, int]]:
    """Yield the parts [first, last) of a file of this size that a graph uses, in order and apart."""
    places = sorted((int(first), int(first) + int(count)) for first, count in CONSTANT.findall(content))
    begin = end = 0
    for first, last in places:
        if first >= size:
            break
        if first > end + GAP:
            yield begin, end
            begin = first
        end = max(end, min(last, size))
    yield begin, end
