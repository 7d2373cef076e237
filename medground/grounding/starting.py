"""A model that loads in threads while its caller imports other modules.

Compiling a graph does not hold Python's lock. Only modules that loading needs are imported here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medground import devices, locations, shipped
from medground.grounding import backends
from medground.models import view_check
from medground.models.view_check import ViewCheck


@dataclass(frozen=True)
class Starting:
    """A model folder, and the functions that wait for its network and for the view check.

    view_check: None for no check.
    """

    folder: Path
    network: Callable[[], backends.Model]
    view_check: Callable[[], ViewCheck | None] | None


def start(
    model: str | Path = "example", device: str = "auto", backend: str = "auto", any_view: bool = False
) -> Starting:
    """Begin to load the model of a folder; the arguments are those of `model.load`.

    This function and those that it returns raise MedgroundError as `model.load` does.
    """
    folder = locations.grounder(model)
    if folder == shipped.GROUNDER:
        shipped.warn()
    network = backends.start(folder, devices.resolve(device), backend)
    return Starting(folder, network, None if any_view else view_check.start())
