"""Devices of torch by name."""

from medground.errors import MedgroundError


def resolve(name: str) -> str:
    """Return the torch device of a name; "auto" is a GPU if there is one, otherwise the CPU.

    Raises MedgroundError if torch cannot use the device.
    """
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
