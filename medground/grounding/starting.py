"""A model that loads in threads while its caller imports other modules.

Compiling a graph does not hold Python's lock. Only modules that loading needs are imported here.
"""

import contextlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from medground import compat, devices, locations, shipped
from medground.grounding import backends
from medground.models import view_check
from medground.models.view_check import ViewCheck


@dataclass(frozen=True)
class Starting:
    """A folder with its network and the view check, which may still be loading; None for no check."""

    folder: Path
    network: Future[backends.Model]
    view_check: Future[ViewCheck | None] | None


def start(
    model: str | Path = "example", device: str = "auto", backend: str = "auto", any_view: bool = False
) -> Starting:
    """Begin to load the model of a folder; the arguments are those of `model.load`.

    Raises MedgroundError if there is no such folder or device. Other errors come with the results.
    """
    folder = locations.grounder(model)
    if folder == shipped.GROUNDER:
        shipped.warn()
    pool, device = ThreadPoolExecutor(2), devices.resolve(device)
    network = pool.submit(backends.load, folder, device, backend)
    check = None if any_view else pool.submit(view_check.load)
    pool.shutdown(wait=False)
    with contextlib.suppress(ImportError):  # the threads report it
        compat.import_openvino()  # the imports of the caller would take turns with it
    return Starting(folder, network, check)
