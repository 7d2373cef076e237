"""Devices of torch by name."""

import importlib.util
import re
import sys
from pathlib import Path

from medground import threads
from medground.errors import MedgroundError

GPUS = ("nvidia[0-9c]*", "nvhost-gpu", "nvgpu", "dxg", "kfd")  # files in /dev of a driver of GPUs


def resolve(name: str) -> str:
    """Return the torch device of a name; "auto" is a GPU if there is one, otherwise the CPU.

    torch is imported only if this machine may have a GPU. Raises MedgroundError if torch cannot use the
    device.
    """
    threads.wait_passively()
    if name == "cpu" or (name == "auto" and not _may_have_gpu()):
        return "cpu"
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError):
        raise MedgroundError(
            f"{name}: torch cannot use this device here; expected cpu, cuda or cuda:N"
        ) from None
    return name


def _may_have_gpu(devices: Path = Path("/dev")) -> bool:
    """Return whether a driver of GPUs is loaded, and torch was built for one."""
    if "torch" in sys.modules or not devices.is_dir():
        return True
    return any(any(devices.glob(each)) for each in GPUS) and not _is_cpu_build()


def _is_cpu_build() -> bool:
    """Return whether the installed torch was built for CPUs only, from its file of versions."""
    found = importlib.util.find_spec("torch")
    path = Path(found.origin).parent / "version.py" if found and found.origin else None
    if path is None or not path.is_file():
        return False
    text = path.read_text()
    return all(re.search(rf"^{each}\b.*= None$", text, re.M) for each in ("cuda", "hip"))
