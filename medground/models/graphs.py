"""Graphs of OpenVINO, which compute a network on a CPU without torch."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medground import threads
from medground.compat import import_openvino
from medground.errors import MedgroundError
from medground.models import graph_files

CONSTANT = re.compile(rb'offset="(\d+)" size="(\d+)"')  # of a graph's file: where its weights file has it
GAP = 1 << 16  # bytes: shorter gaps between parts of a file are read, too


def openvino() -> Any:
    """Return the package; raise MedgroundError if it cannot be imported."""
    try:
        return import_openvino()
    except ImportError:
        raise MedgroundError("exports need OpenVINO: pip install openvino") from None


def compiled(core: Any, path: Path, side: int, precision: str = "f32", shared: Path | None = None) -> Any:
    """Return the graph of a file, for squares of this side, compiled by a `Core` of OpenVINO for the CPU.

    shared: a file with some of the graph's weights. Its bytes come before those of the graph's own file.
    Raises RuntimeError if the graph is damaged, and MedgroundError for operations of no network.
    """
    content = graph_files.read(path)
    how = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads.for_square(side),
        "PERFORMANCE_HINT": "LATENCY",
    }
    if shared is None:
        return core.compile_model(str(path), "CPU", how)
    weights = openvino().Tensor(_weights(content, shared, path.with_suffix(".bin")))
    return core.compile_model(core.read_model(content, weights), "CPU", how)


def _weights(content: bytes, shared: Path, own: Path) -> NDArray[np.uint8]:
    """Return the bytes of both files, but 0 in parts of `shared` that a graph with this content does not use.

    Raises RuntimeError if `shared` gets shorter meanwhile.
    """
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
