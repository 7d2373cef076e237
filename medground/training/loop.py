"""The training loop of the grounder and of our detectors: it can be stopped, resumed, and run in processes.

Accelerate provides devices, processes (under torchrun), precision and trackers. The batch and the dropout of
a step follow from its number, so a resumed run on a CPU ends with exactly the weights of an undisturbed one.
Several processes share each batch and compute what one process would (objectives.distributed). Process 0
validates and writes. If any process gets a stop request, all stop after the same step.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from medground import console
from medground.data.prefetch import Prefetched
from medground.objectives import distributed
from medground.training import memory
from medground.training.optim import Schedule
from medground.training.run_dir import RunFolder, State
from medground.training.stepper import Stepper
from medground.training.stop import StopRequest
from medground.training.unread import Unread

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of the loop that do not change the trained model."""

    loader_threads: int = 1
    memory_advice: str = "give a smaller --batch-size"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Functions of the network at a checkpoint: `validate` returns a figure of it, and more is better; `keep`
    writes the best one so far, with its step. Without `validate` that is the last one."""

    validate: Callable[[nn.Module], float] | None = None
    keep: Callable[[nn.Module, int], None] = lambda network, step: None


def train(
    stepper: Stepper,
    batches: Callable[[int], Any],
    checkpoint: Checkpoint,
    folder: RunFolder,
    stop: StopRequest,
    settings: Settings,
) -> bool:
    """Train to the end of the schedule; return True when done, False when stopped on request.

    `batches` returns the batch of a step, a record of tensors. `stepper.network` then is the average of the
    weights if the schedule has `ema_decay`.
    """
    schedule, engine = stepper.schedule, stepper.engine
    state = stepper.begin(folder)
    if _is_requested(engine, stop) and not _is_over(schedule, state):
        log.warning("stopped on request before step %d: nothing new to save", state.step + 1)
        return False
    steps = range(state.step, state.step if _is_over(schedule, state) else schedule.steps)
    loaded = Prefetched(batches, steps, settings.loader_threads)
    began, unread = time.monotonic(), Unread(scaled=engine.scaler is not None)
    with memory.explained(settings.memory_advice, lambda: f"step {state.step + 1}"):
        for step, batch in console.progress(loaded, folder.path.name, schedule.steps, start=state.step):
            with unread.explained():
                figures, requested = stepper.step(step, batch, stop)
            unread.append(step, figures)
            state = replace(state, step=step + 1)
            if state.step % schedule.log_every == 0 or state.step == schedule.steps:
                _log(folder, engine, state.step, lr=schedule.lr * schedule.lr_factor(step), **unread.read())
            if schedule.is_checkpoint(state.step) or requested:
                unread.read()
                state = _save(stepper, checkpoint, folder, state)
            if requested or _is_over(schedule, state):
                break
    count, took = state.step - steps.start, time.monotonic() - began
    log.info("%d steps in %.1f s, of which %.1f s waiting for batches", count, took, loaded.waited)
    return _is_done(schedule, folder, state)


def _is_requested(engine: Accelerator, stop: StopRequest) -> bool:
    """Return whether any process has a stop request; each waits here for all."""
    if distributed.count() == 1:
        return bool(stop)
    flag = torch.tensor(float(bool(stop)), device=engine.device)
    return distributed.averaged(flag).item() > 0


def _is_over(schedule: Schedule, state: State) -> bool:
    return schedule.is_over(state.step, state.best_step, state.best)


def _is_done(schedule: Schedule, folder: RunFolder, state: State) -> bool:
    """Log how the run ended, and draw its losses; return whether it is done."""
    if not _is_over(schedule, state):
        log.warning("stopped on request: saved step %d of %d", state.step, schedule.steps)
        return False
    if state.step < schedule.steps:
        log.warning("ended at step %d: no better validation since step %d", state.step, state.best_step)
    folder.draw()
    return True


def _log(folder: RunFolder, engine: Accelerator, step: int, **values: float) -> None:
    folder.log(step=step, **values)
    engine.log(values, step=step)


def _save(stepper: Stepper, checkpoint: Checkpoint, folder: RunFolder, state: State) -> State:
    """Validate, keep the best network and write the resume file; return the state with the best figure.

    A stop between two checkpoints is not validated: an undisturbed run has no validation there. The other
    processes wait here for process 0.
    """
    if not stepper.engine.is_main_process:
        received: State = distributed.broadcast(None)
        return received
    network = stepper.network.eval()
    due = stepper.schedule.is_checkpoint(state.step)
    figure = checkpoint.validate(network) if checkpoint.validate and due else None
    if figure is not None:
        _log(folder, stepper.engine, state.step, validation=figure)
    if due and (figure is None or state.best is None or figure > state.best):
        state = replace(state, best=figure, best_step=state.step)
        checkpoint.keep(network, state.step)
    stepper.save(folder, state)
    shared: State = distributed.broadcast(state)
    return shared
