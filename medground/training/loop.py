"""The training loop: plain, stoppable, resumable, the same for pretrain and finetune.

Accelerate gives devices, processes (under torchrun) and precision; the loop is ours so that a step can be
read from top to bottom. Each step's batch and dropout follow from its number, so a resumed run on a CPU
ends with exactly the weights of an undisturbed one.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from medground import console
from medground.errors import MedgroundError
from medground.models import grounder
from medground.objectives.learner import Learner, total
from medground.training.batches import Batches
from medground.training.run import RunFolder, State
from medground.training.stop import StopRequest

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast: rates rise over the first `warmup` share, then fall as a half cosine."""

    steps: int
    rate: float
    encoder_rate: float
    weight_decay: float = 1e-4
    warmup: float = 0.05
    clip_norm: float = 1.0
    log_every: int = 20
    save_every: int = 200

    def share(self, step: int) -> float:
        """The share of the full rate at this step, in (0, 1]."""
        rise = max(1, round(self.steps * self.warmup))
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, self.steps - rise)))


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that one run needs; `validate` gives a figure, more is better, or is None."""

    model: grounder.Grounder
    learner: Learner  # of the model's network
    batches: Batches
    schedule: Schedule
    folder: RunFolder
    validate: Callable[[nn.Module], float] | None = None
    device: str = "auto"
    precision: str = "no"
    seed: int = 0
    record: Mapping[str, Any] = field(default_factory=dict)  # what the saved model says of its training
    frozen: Sequence[nn.Module] = ()  # parts that stay as they are
    freeze_norms: bool = False  # few images say less of a film's statistics than those of pre-training did


def train(job: Job, stop: StopRequest) -> bool:
    """Train to the end of the schedule, or until asked to stop; True when it is done.

    The model folder then holds the best network by validation, or the last one without it.
    """
    accelerator = Accelerator(cpu=job.device == "cpu", mixed_precision=job.precision)
    learner, optimizer = job.learner, _optimizer(job.learner, job.schedule)
    state = job.folder.restore(learner, optimizer)
    learner, optimizer = accelerator.prepare(learner, optimizer)
    remaining = range(state.step, job.schedule.steps)
    for step in console.progress(remaining, job.folder.path.name, job.schedule.steps, start=state.step):
        parts = _step(job, accelerator, learner, optimizer, step)
        state = replace(state, step=step + 1)
        if state.step % job.schedule.log_every == 0 or state.step == job.schedule.steps:
            job.folder.log(step=state.step, rate=job.schedule.rate * job.schedule.share(step), **parts)
        if state.step % job.schedule.save_every == 0 or state.step == job.schedule.steps or stop:
            state = _save(job, accelerator, learner, optimizer, state, stop)
        if stop:
            log.warning("asked to stop: saved step %d of %d", state.step, job.schedule.steps)
            break
    accelerator.end_training()
    return state.step == job.schedule.steps


def _optimizer(learner: Learner, schedule: Schedule) -> torch.optim.Optimizer:
    network = learner.network
    encoders = [*network.image_encoder.parameters(), *network.text_encoder.parameters()]
    known = {id(each) for each in encoders}
    others = [each for each in learner.parameters() if id(each) not in known]
    groups: list[dict[str, Any]] = [
        {"params": others, "lr": schedule.rate, "full": schedule.rate},
        {"params": encoders, "lr": schedule.encoder_rate, "full": schedule.encoder_rate},
    ]
    return torch.optim.AdamW(groups, weight_decay=schedule.weight_decay)


def _step(
    job: Job, accelerator: Accelerator, learner: nn.Module, optimizer: torch.optim.Optimizer, step: int
) -> dict[str, float]:
    """One step of gradient descent; the named losses as numbers."""
    batch = job.batches.at(step, accelerator.process_index, accelerator.num_processes)
    batch = batch.to(accelerator.device)
    torch.manual_seed(hash((job.seed, step, accelerator.process_index)))  # dropout follows from the step
    for group in optimizer.param_groups:
        group["lr"] = group["full"] * job.schedule.share(step)
    _train_mode(learner, job)
    with accelerator.autocast():
        parts = learner(batch)
        loss = total(parts, job.learner.weights(step / job.schedule.steps))
    if not loss.isfinite():
        raise MedgroundError(f"step {step + 1}: the loss became {loss.item()}; the last checkpoint stands")
    optimizer.zero_grad(set_to_none=True)
    accelerator.backward(loss)
    accelerator.clip_grad_norm_(learner.parameters(), job.schedule.clip_norm)
    optimizer.step()
    return {"loss": loss.item()} | {name: part.item() for name, part in parts.items()}


def _train_mode(learner: nn.Module, job: Job) -> None:
    learner.train()
    for part in learner.modules():
        if job.freeze_norms and isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()
    for part in job.frozen:
        part.eval()


def _save(
    job: Job,
    accelerator: Accelerator,
    learner: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: State,
    stop: StopRequest,
) -> State:
    """Validate on the beat, keep the best model, write the resume file; the state with the best figure.

    Stopped off the beat there is no validation: an undisturbed run would not have had one there either.
    """
    if not accelerator.is_main_process:
        return state
    bare = accelerator.unwrap_model(learner)
    network = bare.network.eval()
    on_beat = state.step % job.schedule.save_every == 0 or state.step == job.schedule.steps
    figure = job.validate(network) if job.validate and on_beat else None
    if figure is not None:
        job.folder.log(step=state.step, validation=figure)
    if on_beat and (figure is None or state.best is None or figure > state.best):
        record = {**job.record, "step": state.step}
        grounder.save(job.folder.path, replace(job.model, network=network), record)
        state = replace(state, best=figure, best_step=state.step)
    job.folder.save(bare, optimizer, state)
    return state
