"""Workarounds for faults of other packages, and their files without their imports."""

import importlib
import importlib.util
import runpy
import sys
import threading
from typing import Any

from medground.errors import MedgroundError

CONVERTER = "openvino.tools.ovc"
_importing = threading.Lock()


def run_file(package: str, file: str) -> dict[str, Any]:
    """Return what one file of an installed package defines, without importing the package.

    spaCy and negspacy load torch, which takes 2 to 4 seconds; their lists of words need nothing of it.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise MedgroundError(f"{package} is not installed: pip install {package}")
    return runpy.run_path(f"{found.submodule_search_locations[0]}/{file}")


def hide_telemetry() -> None:
    """Make OpenVINO's converter use its own stub if its telemetry package is not installed.

    Otherwise it would report each conversion to its makers without consent. Call this before OpenVINO's
    converter is imported.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def import_openvino() -> Any:
    """Return the package OpenVINO, which imports its converter only when it is used.

    The converter takes half of the time of the import, needs 200 modules, and changes the handlers of
    logging. Raises ImportError if the package is not installed.
    """
    with _importing:  # graphs are loaded in threads
        hide_telemetry()
        if sys.modules.get("openvino") is None:
            sys.modules[CONVERTER] = None  # type: ignore[assignment]
            try:
                package = importlib.import_module("openvino")
            finally:
                del sys.modules[CONVERTER]
            setattr(package, "__getattr__", _of_converter)  # noqa: B010
        return importlib.import_module("openvino")


def _of_converter(name: str) -> Any:
    """Return `openvino.convert_model`, which is imported now."""
    if name != "convert_model":
        raise AttributeError(f"module 'openvino' has no attribute {name!r}")
    return importlib.import_module(CONVERTER).convert_model
