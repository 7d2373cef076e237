"""The accelerator of a run: its device, precision, processes and tracker."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs

from medground import processors
from medground.errors import MedgroundError
from medground.training import trackers

LONGEST_WAIT = timedelta(hours=3)  # of the other processes while process 0 validates and saves


def open_engine(device: str, precision: str, tracker: str | None, folder: Path) -> Accelerator:
    """Return the accelerator of this process: its device, precision and tracker.

    `device`: "cpu", "auto" for torch's current GPU, or one such as "cuda:1", which then is the current one.
    """
    trackers.require(tracker)
    # without this, each of several processes on a CPU would take itself for the only one
    cpu = device == "cpu" or not torch.accelerator.is_available()
    if cpu and precision == "fp16":  # accelerate would silently compute in float32
        raise MedgroundError("--precision fp16 needs a GPU; on a CPU give bf16 or no")
    if cpu and precision == "bf16":
        processors.warn_if_bf16_is_slow("--precision bf16", "--precision no")
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)
    # the parameters of a step depend on the batch: it may have no sentence, for example
    parallel = DistributedDataParallelKwargs(find_unused_parameters=True)
    engine = Accelerator(
        cpu=cpu,
        mixed_precision=precision,
        log_with=tracker,
        project_dir=folder,
        kwargs_handlers=[parallel, InitProcessGroupKwargs(timeout=LONGEST_WAIT)],
    )
    if tracker:
        trackers.start(engine, tracker, folder)
    return engine


@contextmanager
def opened_engine(device: str, precision: str, tracker: str | None, folder: Path) -> Iterator[Accelerator]:
    """Yield `open_engine`'s accelerator, and close its trackers and processes at the end."""
    engine = open_engine(device, precision, tracker, folder)
    try:
        yield engine
    finally:
        engine.end_training()
