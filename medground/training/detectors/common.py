"""The parts that both detectors share: options, the views of a step, and a run of the loop.

The views and the order of step n depend only on the seed and n. So a stopped and resumed run ends, on a
CPU, with exactly the weights of an undisturbed one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, nn

from medground.anatomy import augment
from medground.anatomy.image_set import ImageSet
from medground.errors import MedgroundError
from medground.training import loop, validation
from medground.training.engine import opened_engine
from medground.training.optim import Schedule
from medground.training.run_dir import RunFolder
from medground.training.stepper import Stepper
from medground.training.stop import StopRequest

Build = Callable[[], tuple[nn.Module, torch.optim.Optimizer, ImageSet]]
Predict = Callable[[Any, ImageSet], NDArray[np.float32]]  # a network's (N, Q, 4) boxes, in shares of the side


@dataclass(frozen=True, kw_only=True)
class Options(Schedule):
    """The settings of a detector's training."""

    batch_size: int = 8
    seed: int = 0
    device: str = "cpu"
    ranges: augment.Ranges = field(default_factory=augment.Ranges)


@dataclass(frozen=True, kw_only=True)
class Images:
    """The training images, and those to validate on."""

    training: ImageSet
    validation: ImageSet | None

    def digests(self) -> dict[str, str]:
        """Return what config.toml has of them."""
        found = {"images": self.training.digest()}
        return found | ({"validation": self.validation.digest()} if self.validation else {})


def train(
    build: Build,
    predict: Predict,
    images: Images,
    folder: Path,
    options: Options,
    settings: Mapping[str, Any],
    overwrite: bool,
) -> Any:
    """Train the learner that `build` returns; return its network, or None when stopped after saving.

    `build` also returns the optimizer and the images to train on. `settings` identify the run, together with
    the options and the images; the device does not.
    """
    chosen = {name: each for name, each in asdict(options).items() if name != "device"}
    run = RunFolder(folder, chosen | dict(settings) | images.digests(), overwrite)
    with (
        StopRequest() as stop,
        torch.random.fork_rng(devices=[]),
        opened_engine(options.device, "no", None, folder) as engine,
    ):
        if engine.num_processes > 1:
            raise MedgroundError("train-detector runs in one process: start it without torchrun")
        torch.manual_seed(options.seed)
        learner, optimizer, training = build()
        channels_last(learner)
        stepper = Stepper(engine, learner, optimizer, options, seed=options.seed)
        measured = images.validation
        checkpoint = loop.Checkpoint(validate=_validator(predict, measured) if measured else None)
        threads = 0 if engine.device.type == "cpu" else 1  # a CPU has no time to spare
        done = loop.train(
            stepper,
            lambda step: batch_at(training, step, options),
            checkpoint,
            run,
            stop,
            loop.Settings(loader_threads=threads),
        )
        return stepper.network if done else None


def channels_last(module: nn.Module) -> None:
    """Store the weights of convolutions with channels last, in place: a tenth of a step is saved on a CPU.

    Then torch's batch norm rounds to 1e-5 instead of 1e-7. So it is not for a training that several processes
    may share: their sum would differ from that of one.
    """
    for each in module.modules():
        if isinstance(each, nn.Conv2d):
            each.weight.data = each.weight.data.contiguous(memory_format=torch.channels_last)


def _validator(predict: Predict, images: ImageSet) -> Callable[[nn.Module], float]:
    return lambda network: validation.over_regions(predict(network, images), images)


def batch_at(images: ImageSet, step: int, options: Options) -> augment.Views:
    """Return the views of a step; epochs follow one another, each in its own order."""
    count = len(images)
    places = range(step * options.batch_size, (step + 1) * options.batch_size)
    orders = {epoch: _order(count, options.seed, epoch) for epoch in {place // count for place in places}}
    rows = [orders[place // count][place % count] for place in places]
    generator = Generator().manual_seed(int(np.random.default_rng([options.seed, 1, step]).integers(2**62)))
    return augment.views(as_views(images, rows), options.ranges, generator)


def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, 0, epoch]).permutation(count)


def as_views(images: ImageSet, rows: Sequence[int] | NDArray[np.int64] | slice) -> augment.Views:
    """Return the images of these rows as tensors, without any change."""
    present = torch.from_numpy(images.present[rows])
    return augment.Views(
        torch.from_numpy(images.squares[rows])[:, None].float() / 255,
        torch.from_numpy(images.boxes[rows]),
        (present == 1).float(),
        present.float(),
    )
