"""Building networks of configs from strangers: no more weights than their file can hold."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from medground.errors import MedgroundError
from medground.model_dir import COPY_AGAIN

# what torch and transformers raise for sizes that no network has
UNUSABLE = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError),
    *(RuntimeError, TypeError, ValueError),
)
Built = TypeVar("Built", bound=nn.Module)
PER_BYTE = 2  # weights of four bits
HARMLESS = 250_000_000  # weights, less than a GiB: whether they fit their files is checked later
MOST_WEIGHTS = 20_000_000_000  # of a model whose files are not known yet


@contextmanager
def bounded(files: list[Path], place: object) -> Iterator[None]:
    """Raise MedgroundError once the networks built inside have more weights than these files can hold.

    Up to `HARMLESS` are allowed; without files the limit is `MOST_WEIGHTS`. A weight that is used twice
    is in memory before it is shared.
    """
    held = PER_BYTE * sum(each.stat().st_size for each in files)
    most, count = max(HARMLESS, held) if files else MOST_WEIGHTS, 0
    seen: dict[tuple[int, str], int] = {}  # by module and name: loading replaces the weights of building

    def add(module: nn.Module, name: str, weight: nn.Parameter | None) -> None:
        nonlocal count
        size = 0 if weight is None else weight.numel()
        count += size - seen.get((id(module), name), 0)
        seen[id(module), name] = size
        if count > most:
            raise MedgroundError(f"{place}: describes more weights than its files hold; {COPY_AGAIN}")

    hook = register_module_parameter_registration_hook(add)
    try:
        yield
    finally:
        hook.remove()


def built(make: Callable[[], Built], files: list[Path], place: object) -> Built:
    """Return what `make` builds, if a trial that takes no memory does not exceed the limit of `bounded`.

    Raises MedgroundError for a config of no network.
    """
    try:
        with bounded(files, place), torch.device("meta"):
            make()
        return make()
    except UNUSABLE as error:
        problem = f"describes no network that can be built ({type(error).__name__}); {COPY_AGAIN}"
        raise MedgroundError(f"{place}: {problem}") from error
