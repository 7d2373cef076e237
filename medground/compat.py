"""What other packages' faults ask of us."""

import importlib
import importlib.util
import sys


def hide_broken_torchvision() -> None:
    """Make a torchvision that cannot be imported invisible to transformers, which needs none.

    A torchvision built for another torch (PyPI's beside a CPU build, say) installs silently and breaks every
    model class of transformers on import. A sound torchvision, or none, is left alone.
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
    """Make OpenVINO's converter take the stub that it has for where its telemetry is not installed.

    Otherwise it would report each conversion to its makers without asking. Must run before OpenVINO's
    converter is imported.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
