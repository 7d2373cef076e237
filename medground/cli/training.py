"""The options and the ending that pretrain and finetune share."""

import functools
import logging
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from medground import registry
from medground.cli import options as shared
from medground.errors import MedgroundError

log = logging.getLogger(__name__)
POSITIVE = click.FloatRange(min=0, min_open=True)


def _weights(ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, float]:
    """LOSS=NUMBER, given any number of times, as a table."""
    weights = {}
    for each in given:
        name, _, number = each.partition("=")
        try:
            weights[name] = float(number)
        except ValueError:
            raise click.BadParameter(f"{each!r}: want LOSS=NUMBER, such as giou=1") from None
        if not 0 <= weights[name] < math.inf:
            raise click.BadParameter(f"{each!r}: a weight is a number from 0 up")
    return weights


def check(
    objective: tuple[str, ...], weight: dict[str, float], architecture: str, tracker: str | None, **_: Any
) -> None:
    """Refuse, before anything is read, losses that are not there to weigh, objectives that do not go
    together, and a tracker that is not installed."""
    from medground.training import tracking

    try:
        registry.check_losses(objective, weight, architecture)
    except MedgroundError as error:
        raise click.UsageError(str(error)) from None
    tracking.require(tracker)


def may_be_stopped(command: Callable[..., None]) -> Callable[..., None]:
    """The command's body, which SIGTERM and SIGUSR1 end with 75 wherever nothing has to be saved first; the
    training, once it has begun, hears them in its own way."""

    @functools.wraps(command)
    def run(*args: Any, **chosen: Any) -> None:
        from medground.training.stop import StopRequest

        with StopRequest(then=_stop_at_once):
            command(*args, **chosen)

    return run


def _stop_at_once() -> NoReturn:
    log.warning("asked to stop before the training began: nothing to save")
    raise click.exceptions.Exit(shared.STOPPED)


paraphrases = click.option(
    "--paraphrases",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Other wordings of a phrase's findings, from the lexicon but for those that evaluate --probes holds "
    "out; half of the draws show one.",
)
_SAME_FOR_ALL = [
    shared.config,
    shared.images,
    shared.run_folder,
    click.option(
        "--size",
        type=click.Choice(["small", "paper"]),
        default="small",
        show_default=True,
        help="small: for a laptop; paper: TransVG's shape as AGP trains it, 640 px.",
    ),
    click.option(
        "--architecture",
        type=click.Choice(["transvg", "mdetr"]),
        default="transvg",
        show_default=True,
        help="transvg: one box a phrase; mdetr: none, one or many.",
    ),
    click.option(
        "--weight",
        multiple=True,
        metavar="LOSS=NUMBER",
        callback=_weights,
        help="Weigh a loss otherwise than by default, such as giou=1; may be given again. The losses and "
        "their weights stand above.",
    ),
    click.option("--image-encoder", help="Folder or hub name of a backbone that transformers can load."),
    click.option("--text-encoder", help="Folder or hub name of a text encoder and its tokenizer."),
    click.option("--encoder-rate", type=POSITIVE, help="--rate of both encoders, where they have their own."),
    click.option(
        "--weight-decay",
        type=click.FloatRange(min=0),
        default=1e-4,
        show_default=True,
        help="AdamW's weight decay.",
    ),
    click.option(
        "--warmup",
        type=click.FloatRange(0, 1),
        default=0.05,
        show_default=True,
        help="Share of the steps over which the rate rises.",
    ),
    click.option(
        "--log-every",
        type=shared.COUNT,
        default=20,
        show_default=True,
        help="Steps between lines of metrics.jsonl.",
    ),
    click.option(
        "--schedule",
        type=click.Choice(["cosine", "step"]),
        default="cosine",
        show_default=True,
        help="How the rate falls: as a half cosine, or to a tenth after two thirds of the steps.",
    ),
    click.option(
        "--clip", type=POSITIVE, default=1.0, show_default=True, help="Largest norm of a step's gradient."
    ),
    click.option(
        "--accumulate",
        type=shared.COUNT,
        default=1,
        show_default=True,
        help="Work on each step's batch in so many parts, for less memory. The gradient is the whole "
        "batch's, but for batch norms that learn, in a run without --from: they see each part by itself.",
    ),
    click.option(
        "--ema",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help="Keep a running mean of the weights, such as 0.999; it is what is validated and saved.",
    ),
    click.option(
        "--patience",
        type=shared.COUNT,
        help="End after so many validations of which none was the best so far.",
    ),
    click.option(
        "--compile", is_flag=True, help="Let torch.compile make faster code; the start takes minutes."
    ),
    click.option(
        "--tracker",
        type=click.Choice(["tensorboard"]),
        help="Write the losses for a tracker too, in the folder.",
    ),
    click.option(
        "--cache",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Folder that medground cache made: films are taken from there, others read from --images.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(min=0),
        default=1,
        show_default=True,
        help="Threads that make the next batches; the same ones for any number.",
    ),
    click.option(
        "--augment",
        type=click.Choice(["none", "mild", "strong"]),
        default="mild",
        show_default=True,
        help="Random views of the films; strong: for films of other machines.",
    ),
    click.option(
        "--mirror",
        type=click.FloatRange(0, 1),
        default=0.0,
        show_default=True,
        help="Share of the views in which left and right are changed, and the words are not: sides are then "
        "told by the anatomy.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["no", "bf16", "fp16"]),
        default="no",
        show_default=True,
        help="Mixed precision; no is float32.",
    ),
    click.option(
        "--device",
        type=click.Choice(["auto", "cpu"]),
        default="auto",
        show_default=True,
        help="auto takes a GPU if there is one; start several processes with torchrun.",
    ),
    shared.seed,
    shared.anew,
]


def options(*, steps: int, batch: int, rate: float, save_every: int) -> Callable[[Any], Any]:
    """Add the options of a training command, with these defaults."""
    own = [
        click.option(
            "--steps", type=shared.COUNT, default=steps, show_default=True, help="Steps of training."
        ),
        click.option(
            "--batch", type=shared.COUNT, default=batch, show_default=True, help="Images in a step."
        ),
        click.option("--rate", type=POSITIVE, default=rate, show_default=True, help="Highest learning rate."),
        click.option(
            "--save-every",
            type=shared.COUNT,
            default=save_every,
            show_default=True,
            help="Steps between checkpoints, and between validations.",
        ),
    ]

    def add(command: Any) -> Any:
        for option in reversed(_SAME_FOR_ALL + own):
            command = option(command)
        return command

    return add


def follow(start: Path, chosen: dict[str, Any]) -> None:
    """Take architecture and size from the model to go on from; refuses options that say otherwise."""
    from medground.models import grounder, pretrained

    config = grounder.read_config(start)
    for name, own in (("architecture", config.architecture), ("size", grounder.size_of(config))):
        if _is_given(name) and chosen[name] != own:
            raise click.UsageError(f"--{name} {chosen[name]}: {start} has {own or 'a shape of its own'}")
        chosen[name] = own
    for name in ("image_encoder", "text_encoder"):
        flag, what = name.replace("_", "-"), name.replace("_", " ")
        if chosen[name] and not pretrained.same_shape(getattr(config, name), chosen[name], what):
            raise click.UsageError(f"--{flag} {chosen[name]}: {start} has an encoder of another shape")


def _is_given(name: str) -> bool:
    """Whether the option stands on the command line or in --config."""
    return click.get_current_context().get_parameter_source(name) is not click.core.ParameterSource.DEFAULT


def run(learned: list[Any], checked: list[Any], start: Path | None, **chosen: Any) -> None:
    """Train as the options say, and exit with 75 when stopped before the end.

    `chosen` may hold `rehearsal`, `leakage` and `chosen` of the material too.
    """
    # torch keeps a compiled kernel, with its memory, for each of the last 1,024 shapes of a batch on a CPU;
    # every step has another number of phrases, so that would grow to gigabytes and save nothing
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    from medground.training.train import Material, Options, fit

    images, folder, anew = (chosen.pop(name) for name in ("images", "folder", "anew"))
    more = {name: chosen.pop(name) for name in ("rehearsal", "leakage", "chosen") if name in chosen}
    material = Material(examples=learned, validation=checked, **more)
    done = fit(material, images, folder, Options(**chosen), start, anew)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        _leave(0 if done else shared.STOPPED)
    if not done:
        raise click.exceptions.Exit(shared.STOPPED)


def _leave(code: int) -> NoReturn:
    """End one of several processes with this code, now that all is written.

    On the usual way out torch's network threads now and then abort the process (SIGABRT), and what started
    it would take a finished training, or one that was asked to stop, for a failed one.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
