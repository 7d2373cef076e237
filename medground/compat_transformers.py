"""Workarounds for faults of transformers.

A module of its own, since modules that read only a file of a package do not need transformers.
"""

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


def prepare_transformers() -> None:
    """Hide a broken torchvision from transformers, and disable its question whether to run code of a model.

    It would appear on stdout and take the answer from our input, even with `trust_remote_code=False`: parts
    of a processor do not get that. Without the question it raises ValueError.
    """
    hide_broken_torchvision()
    from transformers import dynamic_module_utils

    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0


def invalid_config() -> type[Exception]:
    """Return the error of transformers for a value of a wrong type in a config; it is no ValueError."""
    from huggingface_hub.errors import StrictDataclassError

    return StrictDataclassError
