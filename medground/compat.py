"""Workarounds for faults of other packages."""

import importlib
import importlib.util
import sys


def hide_broken_torchvision() -> None:
    """Hide a torchvision that cannot be imported from transformers, which does not need it.

    A torchvision built for another torch (such as PyPI's together with a CPU build) installs without an
    error. It then breaks every model class of transformers on import. A working torchvision is not changed.
    """
    if "torchvision" in sys.modules or importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError, AttributeError, OSError):
        for name in [each for each in sys.modules if each.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.modules["torchvision"] = None  # type: ignore[assignment]


def hide_telemetry() -> None:
    """Make OpenVINO's converter use its own stub if its telemetry package is not installed.

    Otherwise it would report each conversion to its makers without consent. Call this before OpenVINO's
    converter is imported.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
