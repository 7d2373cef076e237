"""One message for memory that runs out in training, on a GPU or in the CPU allocator of torch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from medground.errors import MedgroundError

# torch's CPU allocator raises RuntimeError; Linux and Windows have different words for the reason.
ALLOCATOR = ("not enough memory", "can't allocate memory")


@contextmanager
def explained(advice: str, place: Callable[[], str]) -> Iterator[None]:
    """Raise MedgroundError with the place and the advice instead of an error of an allocator."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise MedgroundError(_message(advice, place(), error)) from error
    except RuntimeError as error:
        if not any(words in str(error) for words in ALLOCATOR):
            raise
        raise MedgroundError(_message(advice, place(), error)) from error


def _message(advice: str, place: str, error: BaseException) -> str:
    which = "GPU memory" if isinstance(error, torch.OutOfMemoryError) else "memory"
    return f"{place}: out of {which}; {advice} (the last checkpoint was kept)"
