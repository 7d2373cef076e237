"""Checks that pretrain and finetune share, and the start and end of their training."""

import functools
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from medground import registry
from medground.cli import options as shared
from medground.errors import MedgroundError

log = logging.getLogger(__name__)
# A model to start from has its own.
SHAPE = ("norm", "image_size", "text_tokens", "text_layers", "num_queries")


def check(
    objective: tuple[str, ...],
    loss_weight: dict[str, float],
    architecture: str,
    tracker: str | None,
    feature_maps: Path | None,
    freeze: tuple[str, ...],
    augment: str,
    hflip_prob: float,
    **_: Any,
) -> None:
    """Raise UsageError, before any input is read, for a weight of an unknown loss, objectives that cannot be
    combined, feature maps that change during the training, and a tracker that is not installed."""
    try:
        registry.check_losses(objective, loss_weight, architecture)
    except MedgroundError as error:
        raise click.UsageError(str(error)) from None
    fixed = {"image-encoder", "early-stages"} & set(freeze)
    if feature_maps is not None and (not fixed or augment != "none" or hflip_prob):
        raise click.UsageError(
            "--feature-maps needs images and stages that stay the same: give --freeze image-encoder or "
            "early-stages, and --augment none, without --hflip-prob"
        )
    if tracker:
        from medground.training import trackers

        trackers.require(tracker)


def may_be_stopped(command: Callable[..., None]) -> Callable[..., None]:
    """Wrap a command so that SIGTERM and SIGUSR1 end it with 75 until the training handles them itself."""

    @functools.wraps(command)
    def run(*args: Any, **chosen: Any) -> None:
        from medground.training.stop import StopRequest

        with StopRequest(then=_stop_at_once):
            command(*args, **chosen)

    return run


def _stop_at_once() -> NoReturn:
    log.warning("stopped on request before the training began: nothing to save")
    raise click.exceptions.Exit(shared.STOPPED)


def follow(start: Path, chosen: dict[str, Any]) -> None:
    """Take architecture and size from the model to start from; raise UsageError for other options."""
    from medground.models import grounder, pretrained

    config = grounder.read_config(start)
    for name, own in (("architecture", config.architecture), ("model_size", grounder.size_of(config))):
        if shared.is_given(name) and chosen[name] != own:
            flag = name.replace("_", "-")
            raise click.UsageError(f"--{flag} {chosen[name]}: {start} has {own or 'a shape of its own'}")
        chosen[name] = own
    for name in SHAPE:
        own = getattr(config, {"num_queries": "queries"}.get(name, name), None)
        if chosen[name] and chosen[name] != own:
            flag = name.replace("_", "-")
            raise click.UsageError(
                f"--{flag} {chosen[name]}: {start} has {'another one' if own is None else own}"
            )
    for name in ("image_encoder", "text_encoder"):
        flag, what = name.replace("_", "-"), name.replace("_", " ")
        if chosen[name] and not pretrained.same_shape(getattr(config, name), chosen[name], what):
            raise click.UsageError(f"--{flag} {chosen[name]}: {start} has an encoder of another shape")


def run(learned: Sequence[Any], checked: Sequence[Any], start: Path | None, **chosen: Any) -> None:
    """Train with these options, and exit with 75 when stopped before the end.

    `chosen` may also hold `rehearsal`, `leakage`, `record` and `chosen` of the material.
    """
    # torch keeps a compiled kernel, with its memory, for each of the last 1,024 shapes of a batch on a CPU;
    # every step has another number of phrases, so that would grow to gigabytes and save nothing
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    from medground.training.train import Material, Options, fit

    images, folder, overwrite = (chosen.pop(name) for name in ("images", "folder", "overwrite"))
    more = {name: chosen.pop(name) for name in ("rehearsal", "leakage", "record", "chosen") if name in chosen}
    material = Material(examples=learned, validation=checked, **more)
    _check_device(chosen["device"])
    done = fit(material, images, folder, Options(**chosen), start, overwrite)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        _leave(0 if done else shared.STOPPED)
    if not done:
        raise click.exceptions.Exit(shared.STOPPED)


def _check_device(name: str) -> None:
    """Raise UsageError for a device that torch cannot use, and for cuda:N with several processes."""
    if name in ("auto", "cpu"):
        return
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and ":" in name:
        raise click.UsageError(f"--device {name}: torchrun assigns the GPUs; give --device cuda or auto")
    shared.device_of(name)


def _leave(code: int) -> NoReturn:
    """End one of several processes with this exit code, after everything is written.

    In a normal exit torch's network threads sometimes abort the process (SIGABRT). torchrun would then report
    a finished or stopped training as failed.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
