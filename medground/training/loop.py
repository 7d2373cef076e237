"""The training loop of the grounder and of our detectors: it can be stopped, resumed, and run in processes.

Accelerate provides devices, processes (under torchrun), precision and trackers. The batch and the dropout of
a step follow from its number, so a resumed run on a CPU ends with exactly the weights of an undisturbed one.
Several processes share each batch and compute what one process would (objectives.distributed). Process 0
validates and writes. If any process gets a stop request, all stop after the same step.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor, nn

from medground import console
from medground.data.collate import each_tensor
from medground.data.prefetch import Prefetched
from medground.errors import MedgroundError
from medground.objectives import distributed
from medground.objectives.learner import total
from medground.training import grad_cache, memory, trackers
from medground.training.ema import Average
from medground.training.optim import Schedule, set_lr
from medground.training.run_dir import RunFolder, State
from medground.training.stop import StopRequest

log = logging.getLogger(__name__)
LONGEST_WAIT = timedelta(hours=3)  # of the other processes while process 0 validates and saves


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that one run needs.

    `learner` is a module whose forward returns the named losses of a batch. Its `network` is the part that
    is validated and kept; its `weights(progress)` returns the weight of each loss.
    """

    engine: Accelerator
    learner: Any
    optimizer: torch.optim.Optimizer
    batches: Callable[[int], Any]  # the batch of a step: a record of tensors
    schedule: Schedule
    folder: RunFolder
    validate: Callable[[nn.Module], float] | None = None  # a figure of the network; more is better
    keep: Callable[[nn.Module, int], None] | None = None  # writes the best network so far, and its step
    seed: int = 0
    frozen: Sequence[nn.Module] = ()
    freeze_norms: bool = False  # keep the statistics of batch norm: those of pre-training saw more images
    loader_threads: int = 1
    compiled: Sequence[nn.Module] = ()  # parts for torch.compile
    compiler: str = "inductor"
    memory_advice: str = "give a smaller --batch-size"


@dataclass(frozen=True)
class Running:
    """The learner and the optimizer as the engine prepared them, and the average of the weights."""

    learner: nn.Module
    optimizer: torch.optim.Optimizer
    average: Average | None
    network: nn.Module  # the one to validate and keep: the average, if there is one


def open_engine(device: str, precision: str, tracker: str | None, folder: Path) -> Accelerator:
    """Return the accelerator of this process: its device, precision and tracker.

    `device`: "cpu", "auto" for torch's current GPU, or one such as "cuda:1", which then is the current one.
    """
    trackers.require(tracker)
    # without this, each of several processes on a CPU would take itself for the only one
    cpu = device == "cpu" or not torch.accelerator.is_available()
    if cpu and precision == "fp16":  # accelerate would silently compute in float32
        raise MedgroundError("--precision fp16 needs a GPU; on a CPU give bf16 or no")
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


def train(job: Job, stop: StopRequest) -> nn.Module | None:
    """Train to the end of the schedule; return the network, or None when stopped on request.

    The network is the average of the weights if the schedule has `ema_decay`. `keep` gets the best one by
    validation, or the last one without validation.
    """
    running, state = _begin(job)
    schedule = job.schedule
    if _is_requested(job, stop) and not _is_over(job, state):
        log.warning("stopped on request before step %d: nothing new to save", state.step + 1)
        return None
    steps = range(state.step, state.step if _is_over(job, state) else schedule.steps)
    batches = Prefetched(job.batches, steps, job.loader_threads)
    requested, began, unread = False, time.monotonic(), Unread(job)
    with memory.explained(job.memory_advice, lambda: f"step {state.step + 1}"):
        for step, batch in console.progress(batches, job.folder.path.name, schedule.steps, start=state.step):
            with unread.explained():
                figures, requested = _step(job, running, step, batch, stop)
            unread.append(step, figures)
            state = replace(state, step=step + 1)
            if state.step % schedule.log_every == 0 or state.step == schedule.steps:
                _log(job, state.step, lr=schedule.lr * schedule.lr_factor(step), **unread.read())
            if schedule.is_checkpoint(state.step) or requested:
                unread.read()
                state = _save(job, running, state)
            if requested or _is_over(job, state):
                break
    count, took = state.step - steps.start, time.monotonic() - began
    log.info("%d steps in %.1f s, of which %.1f s waiting for batches", count, took, batches.waited)
    return running.network if _is_done(job, state) else None


class Unread:
    """Losses and gradient norms of the steps since the last log line or checkpoint, still on the device.

    To read a number waits for the device, so it is not done after every step. A number that is not finite is
    found before anything is logged or saved.
    """

    def __init__(self, job: Job):
        self._job = job
        self._steps: list[tuple[int, dict[str, Tensor]]] = []

    def append(self, step: int, figures: dict[str, Tensor]) -> None:
        """Add the figures of a step: "loss", its parts and "grad_norm", each a scalar."""
        self._steps.append((step, figures))

    def read(self) -> dict[str, float]:
        """Return the figures of the last step; raise MedgroundError for the first that is not finite."""
        if not self._steps:
            return {}
        table = torch.stack([torch.stack(list(each.values())) for _, each in self._steps]).tolist()
        steps, self._steps = self._steps, []
        for (step, names), values in zip(steps, table, strict=True):
            found = dict(zip(names, values, strict=True))
            if not math.isfinite(found["loss"]):
                raise MedgroundError(_not_finite(step, "loss", found["loss"]))
            # a scaler skips a step without a finite gradient, and reduces its scale
            if self._job.engine.scaler is None and not math.isfinite(found["grad_norm"]):
                raise MedgroundError(_not_finite(step, "gradient", found["grad_norm"]))
        return found

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raise the error of an earlier step if scipy refuses the numbers of this one."""
        try:
            yield
        except ValueError:
            self.read()
            raise


def _not_finite(step: int, what: str, value: float) -> str:
    return f"step {step + 1}: the {what} became {value:g}; the last checkpoint was kept"


def _begin(job: Job) -> tuple[Running, State]:
    """Return the modules and the state in which an earlier run stopped, or those of step 0."""
    network = job.learner.network
    average = Average(network, job.schedule.ema_decay) if job.schedule.ema_decay else None
    state = job.folder.restore(job.learner, job.optimizer, average.network if average else None)
    if average:
        average.network.to(job.engine.device)
    for part in job.compiled:  # in place: names stay; numbers of phrases and boxes change with every batch
        part.compile(backend=job.compiler, dynamic=True)
    learner, optimizer = job.engine.prepare(job.learner, job.optimizer)
    return Running(learner, optimizer, average, average.network if average else network), state


def _is_requested(job: Job, stop: StopRequest) -> bool:
    """Return whether any process has a stop request; each waits here for all."""
    if distributed.count() == 1:
        return bool(stop)
    flag = torch.tensor(float(bool(stop)), device=job.engine.device)
    return distributed.averaged(flag).item() > 0


def _is_over(job: Job, state: State) -> bool:
    return job.schedule.is_over(state.step, state.best_step, state.best)


def _is_done(job: Job, state: State) -> bool:
    """Log how the run ended, and draw its losses; return whether it is done."""
    if not _is_over(job, state):
        log.warning("stopped on request: saved step %d of %d", state.step, job.schedule.steps)
        return False
    if state.step < job.schedule.steps:
        log.warning("ended at step %d: no better validation since step %d", state.step, state.best_step)
    job.folder.draw()
    return True


def _step(
    job: Job, running: Running, step: int, batch: Any, stop: StopRequest
) -> tuple[dict[str, Tensor], bool]:
    """Do one step of gradient descent; return the losses, and whether any process has a stop request.

    One process does not wait for its device.
    """
    engine, schedule = job.engine, job.schedule
    torch.manual_seed(hash((job.seed, step, engine.process_index)))  # dropout follows from the step
    set_lr(running.optimizer, schedule.lr_factor(step), schedule.lr_factor(step, of_text=True))
    _train_mode(running.learner, job)
    running.optimizer.zero_grad(set_to_none=True)
    batch = each_tensor(batch, lambda part: part.to(engine.device, non_blocking=True))
    loss, parts = _gradients(job, running.learner, batch, job.learner.weights(step / schedule.steps))
    flag = loss.new_full((), float(bool(stop)))
    values = distributed.averaged(torch.stack([loss, *parts.values(), flag]).detach())
    limit = schedule.max_grad_norm or math.inf  # 0: only measured
    norm = engine.clip_grad_norm_(running.learner.parameters(), limit)
    running.optimizer.step()
    if running.average:
        running.average.update(job.learner.network, step + 1)
    named = dict(zip(["loss", *parts], values[:-1].unbind(), strict=True))
    requested = bool(stop) if distributed.count() == 1 else values[-1].item() > 0
    return named | {"grad_norm": norm.detach().to(values)}, requested


def _gradients(
    job: Job, learner: nn.Module, batch: Any, weights: dict[str, float]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Set the gradients of the whole batch's loss; return the loss and its named parts."""
    count = job.schedule.micro_batches
    if count > 1:
        return grad_cache.backward(
            learner, job.learner, batch, count, lambda parts: total(parts, weights), job.engine
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
    """Validate, keep the best network and write the resume file; return the state with the best figure.

    A stop between two checkpoints is not validated: an undisturbed run has no validation there. The other
    processes wait here for process 0.
    """
    if not job.engine.is_main_process:
        received: State = distributed.broadcast(None)
        return received
    running.network.eval()
    due = job.schedule.is_checkpoint(state.step)
    figure = job.validate(running.network) if job.validate and due else None
    if figure is not None:
        _log(job, state.step, validation=figure)
    if due and (figure is None or state.best is None or figure > state.best):
        state = replace(state, best=figure, best_step=state.step)
        if job.keep:
            job.keep(running.network, state.step)
    average = running.average.network if running.average else None
    job.folder.save(job.learner, running.optimizer, state, average)
    shared: State = distributed.broadcast(state)
    return shared
