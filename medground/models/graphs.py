"""Graphs of OpenVINO, which compute a network on a CPU without torch."""

from pathlib import Path
from typing import Any

import numpy as np

from medground import threads
from medground.compat import import_openvino
from medground.errors import MedgroundError
from medground.models import graph_files


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
    graph_files.check(path)
    how = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads.for_square(side),
        "PERFORMANCE_HINT": "LATENCY",
    }
    if shared is None:
        return core.compile_model(str(path), "CPU", how)
    both = shared.read_bytes() + path.with_suffix(".bin").read_bytes()
    weights = openvino().Tensor(np.frombuffer(both, np.uint8))
    return core.compile_model(core.read_model(path.read_bytes(), weights), "CPU", how)
