"""Graphs of OpenVINO, which compute a network on a CPU without torch."""

from pathlib import Path
from typing import Any

from medground import threads
from medground.compat import import_openvino
from medground.errors import MedgroundError


def openvino() -> Any:
    """Return the package; raise MedgroundError if it cannot be imported."""
    try:
        return import_openvino()
    except ImportError:
        raise MedgroundError("exports need OpenVINO: pip install openvino") from None


def compiled(core: Any, path: Path, side: int, precision: str = "f32") -> Any:
    """Return the graph of a file, for squares of this side, compiled by a `Core` of OpenVINO for the CPU.

    Raises RuntimeError if it is damaged.
    """
    how = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads.for_square(side),
        "PERFORMANCE_HINT": "LATENCY",
    }
    return core.compile_model(str(path), "CPU", how)
