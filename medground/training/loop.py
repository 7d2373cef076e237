"""The training loop: plain, stoppable, resumable, the same for pretrain and finetune.

Accelerate gives devices, processes (under torchrun), precision and trackers; the loop is ours so that a step
can be read from top to bottom. Each step's batch and dropout follow from its number, so a resumed run on a
CPU ends with exactly the weights of an undisturbed one. Several processes share each batch and compute what
one would (objectives.processes); process 0 alone validates and writes, and a request to stop that any of them
gets is heard by all after the same step.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor, nn

from medground import console
from medground.data.collate import Batch, Batches
from medground.data.prefetch import Prefetched
from medground.errors import MedgroundError
from medground.models import grounder
from medground.models.network import Network
from medground.objectives import distributed
from medground.objectives.learner import Learner, total
from medground.training import grad_cache, tracking
from medground.training.ema import Average
from medground.training.optim import Schedule, build_optimizer, set_rate
from medground.training.run_dir import RunFolder, State
from medground.training.stop import StopRequest

__all__ = ["Job", "Schedule", "open_engine", "train"]
log = logging.getLogger(__name__)
LAYERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
LONGEST_WAIT = timedelta(hours=3)  # of the other processes for process 0 to validate and save


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that one run needs; `validate` gives a figure, more is better, or is None."""

    engine: Accelerator
    model: grounder.Grounder
    learner: Learner  # of the model's network
    batches: Batches
    schedule: Schedule
    folder: RunFolder
    validate: Callable[[nn.Module], float] | None = None
    seed: int = 0
    record: Mapping[str, Any] = field(default_factory=dict)  # what the saved model says of its training
    frozen: Sequence[nn.Module] = ()  # parts that stay as they are
    freeze_norms: bool = False  # few images say less of a film's statistics than those of pre-training did
    workers: int = 1  # threads that make the next batches
    compiler: str | None = None  # torch.compile's backend


@dataclass(frozen=True)
class Running:
    """What moves while a job runs: the learner as the engine prepared it, its optimiser, and the mean."""

    learner: nn.Module
    optimizer: torch.optim.Optimizer
    average: Average | None


def open_engine(device: str, precision: str, tracker: str | None, folder: Path) -> Accelerator:
    """The processes, the device of this one, its precision and the tracker; `end_training` closes it."""
    tracking.require(tracker)
    # not told so, it would have each of several processes on a CPU think that it is alone
    cpu = device == "cpu" or not torch.accelerator.is_available()
    if cpu and precision == "fp16":  # accelerate would compute in float32 and not say so
        raise MedgroundError("--precision fp16 needs a GPU: give bf16, or no, on a CPU")
    # which parameters a step uses depends on the batch: a batch without any sentence, say
    parallel = DistributedDataParallelKwargs(find_unused_parameters=True)
    engine = Accelerator(
        cpu=cpu,
        mixed_precision=precision,
        log_with=tracker,
        project_dir=folder,
        kwargs_handlers=[parallel, InitProcessGroupKwargs(timeout=LONGEST_WAIT)],
    )
    if tracker:
        engine.init_trackers("tensorboard")
    return engine


def train(job: Job, stop: StopRequest) -> bool:
    """Train to the end of the schedule, or until asked to stop; True when it is done.

    The model folder then holds the best network by validation, or the last one without it.
    """
    running, state = _begin(job)
    schedule, engine = job.schedule, job.engine
    if _is_asked(job, stop) and not _is_over(job, state):
        log.warning("asked to stop before step %d: nothing new to save", state.step + 1)
        return False
    rank, world = engine.process_index, engine.num_processes
    steps = range(state.step, state.step if _is_over(job, state) else schedule.steps)
    batches = Prefetched(lambda step: _pinned(job.batches.at(step, rank, world), engine), steps, job.workers)
    asked = False
    for step, batch in console.progress(batches, job.folder.path.name, schedule.steps, start=state.step):
        numbers, asked = _step(job, running, step, batch, stop)
        state = replace(state, step=step + 1)
        if state.step % schedule.log_every == 0 or state.step == schedule.steps:
            _log(job, state.step, rate=schedule.rate * schedule.share(step), **numbers)
        if schedule.is_beat(state.step) or asked:
            state = _save(job, running, state)
        if asked or _is_over(job, state):
            break
    log.info("waited %.1f s for batches", batches.waited)
    return _end(job, state)


def _begin(job: Job) -> tuple[Running, State]:
    """Where an earlier run stopped, or the beginning."""
    learner, device = job.learner, job.engine.device
    if not job.freeze_norms:
        distributed.share_norms(learner, device)
    optimizer = build_optimizer(learner, job.schedule, fused=device.type == "cuda")
    average = Average(learner.network, job.schedule.average) if job.schedule.average else None
    state = job.folder.restore(learner, optimizer, average.network if average else None)
    if average:
        average.network.to(device)
    if job.compiler:
        _compile(learner.network, job.compiler)
    prepared, optimizer = job.engine.prepare(learner, optimizer)
    return Running(prepared, optimizer, average), state


def _compile(network: Network, backend: str) -> None:
    """Let torch compile the encoders and the transformer layers, where the work is, in place: names stay.

    What is between them changes with every batch's numbers of phrases and boxes, and would not gain.
    """
    layers = [each for each in network.modules() if isinstance(each, LAYERS)]
    for part in (network.image_encoder, network.text_encoder, *layers):
        part.compile(backend=backend, dynamic=True)


def _is_asked(job: Job, stop: StopRequest) -> bool:
    """Whether any process has been asked to stop; all wait here for one another."""
    flag = torch.tensor(float(bool(stop)), device=job.engine.device)
    return distributed.averaged(flag).item() > 0


def _is_over(job: Job, state: State) -> bool:
    return job.schedule.is_over(state.step, state.best_step, state.best)


def _end(job: Job, state: State) -> bool:
    """Say how it ended; True when the job is done."""
    if not _is_over(job, state):
        log.warning("asked to stop: saved step %d of %d", state.step, job.schedule.steps)
        return False
    if state.step < job.schedule.steps:
        log.warning("ended at step %d: none since step %d was better", state.step, state.best_step)
    job.folder.draw()
    return True


def _pinned(batch: Batch, engine: Accelerator) -> Batch:
    """The batch in memory that a GPU can read while it computes."""
    return batch.pinned() if engine.device.type == "cuda" else batch


def _step(
    job: Job, running: Running, step: int, batch: Batch, stop: StopRequest
) -> tuple[dict[str, float], bool]:
    """One step of gradient descent; the named losses as numbers, and whether any process is to stop."""
    engine, schedule = job.engine, job.schedule
    torch.manual_seed(hash((job.seed, step, engine.process_index)))  # dropout follows from the step
    set_rate(running.optimizer, schedule.share(step))
    _train_mode(running.learner, job)
    running.optimizer.zero_grad(set_to_none=True)
    weights = job.learner.weights(step / schedule.steps)
    loss, parts = _gradients(job, running.learner, batch.to(engine.device), weights)
    flag = loss.new_tensor(float(bool(stop)))
    values = distributed.averaged(torch.stack([loss, *parts.values(), flag]).detach()).tolist()
    if not math.isfinite(values[0]):
        raise MedgroundError(f"step {step + 1}: the loss became {values[0]}; the last checkpoint stands")
    norm = engine.clip_grad_norm_(running.learner.parameters(), schedule.clip_norm)
    if engine.scaler is None and not math.isfinite(norm):  # a scaler skips such a step, and scales less
        raise MedgroundError(f"step {step + 1}: the gradient became {norm:g}; the last checkpoint stands")
    running.optimizer.step()
    if running.average:
        running.average.follow(job.learner.network, step + 1)
    return dict(zip(["loss", *parts], values[:-1], strict=True)), values[-1] > 0


def _gradients(
    job: Job, learner: nn.Module, batch: Batch, weights: dict[str, float]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Leave the gradient of the whole batch's loss at the parameters; the loss and its parts."""
    if job.schedule.parts > 1:
        return grad_cache.backward(
            learner, job.learner, batch, job.schedule.parts, lambda parts: total(parts, weights), job.engine
        )
    with job.engine.autocast():
        parts = learner(batch)
    loss = total(parts, weights)
    job.engine.backward(loss)
    return loss, parts


def _log(job: Job, step: int, **values: float) -> None:
    job.folder.log(step=step, **values)
    job.engine.log(values, step=step)


def _train_mode(learner: nn.Module, job: Job) -> None:
    learner.train()
    for part in learner.modules():
        if job.freeze_norms and isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()
    for part in job.frozen:
        part.eval()


def _save(job: Job, running: Running, state: State) -> State:
    """Validate on the beat, keep the best model, write the resume file; the state with the best figure.

    Stopped off the beat there is no validation: an undisturbed run would not have had one there either. All
    processes wait here for the one that writes.
    """
    if not job.engine.is_main_process:
        return distributed.broadcast(None)
    network: Any = running.average.network if running.average else job.learner.network
    network.eval()
    on_beat = job.schedule.is_beat(state.step)
    figure = job.validate(network) if job.validate and on_beat else None
    if figure is not None:
        _log(job, state.step, validation=figure)
    if on_beat and (figure is None or state.best is None or figure > state.best):
        record = {**job.record, "step": state.step}
        grounder.save(job.folder.path, replace(job.model, network=network), record)
        state = replace(state, best=figure, best_step=state.step)
    average = running.average.network if running.average else None
    job.folder.save(job.learner, running.optimizer, state, average)
    return distributed.broadcast(state)
