"""A learner with its optimizer, and one step of gradient descent."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from medground.data.collate import to_device
from medground.objectives import distributed
from medground.objectives.learner import total
from medground.training import grad_cache
from medground.training.ema import Average
from medground.training.optim import Schedule, set_lr
from medground.training.run_dir import RunFolder, State
from medground.training.stop import StopRequest


class Stepper:
    """A learner and its optimizer, as they change from step to step.

    `learner` is a module whose forward returns the named losses of a batch. Its `network` is the part that
    is validated and kept; its `weights(progress)` returns the weight of each loss. Modules in `frozen` stay
    in evaluation mode. `seed` and the number of a step determine its dropout.
    """

    def __init__(
        self,
        engine: Accelerator,
        learner: Any,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        *,
        seed: int = 0,
        frozen: Sequence[nn.Module] = (),
    ):
        self.engine, self.schedule, self.seed = engine, schedule, seed
        self._learner, self._optimizer = learner, optimizer
        self._frozen = frozen
        self._average = Average(learner.network, schedule.ema_decay) if schedule.ema_decay else None

    @property
    def network(self) -> nn.Module:
        """The network to validate and keep: the average of the weights, if there is one."""
        network: nn.Module = self._average.network if self._average else self._learner.network
        return network

    def begin(self, folder: RunFolder) -> State:
        """Take the tensors of an earlier run in the folder; return its state, or that of step 0."""
        average = self._average.network if self._average else None
        state = folder.restore(self._learner, self._optimizer, average)
        if average:
            average.to(self.engine.device)
        self._prepared, self._optimizer = self.engine.prepare(self._learner, self._optimizer)
        return state

    def save(self, folder: RunFolder, state: State) -> None:
        """Write what `begin` reads."""
        average = self._average.network if self._average else None
        folder.save(self._learner, self._optimizer, state, average)

    def step(self, step: int, batch: Any, stop: StopRequest) -> tuple[dict[str, Tensor], bool]:
        """Do one step of gradient descent; return the losses, and whether any process has a stop request.

        The losses and the norm of the gradients ("grad_norm") are scalars on the device. One process does not
        wait for its device here.
        """
        schedule = self.schedule
        torch.manual_seed(hash((self.seed, step, self.engine.process_index)))  # dropout follows from the step
        set_lr(self._optimizer, schedule.lr_factor(step), schedule.lr_factor(step, of_text=True))
        self._prepared.train()
        for part in self._frozen:
            part.eval()
        self._optimizer.zero_grad(set_to_none=True)
        batch = to_device(batch, self.engine.device)
        loss, parts = self._gradients(batch, self._learner.weights(step / schedule.steps))
        requested = bool(stop)
        flag = loss.new_full((), float(requested))
        values = distributed.averaged(torch.stack([loss, *parts.values(), flag]).detach())
        limit = schedule.max_grad_norm or math.inf  # 0: only measured
        norm = self.engine.clip_grad_norm_(self._prepared.parameters(), limit)
        self._optimizer.step()
        if self._average:
            self._average.update(self._learner.network, step + 1)
        named = dict(zip(["loss", *parts], values[:-1].unbind(), strict=True))
        if distributed.count() > 1:
            requested = values[-1].item() > 0
        return named | {"grad_norm": norm.detach().to(values)}, requested

    def _gradients(self, batch: Any, weights: dict[str, float]) -> tuple[Tensor, dict[str, Tensor]]:
        """Set the gradients of the whole batch's loss; return the loss and its named parts."""
        count = self.schedule.micro_batches
        if count > 1:
            return grad_cache.backward(
                self._prepared, self._learner, batch, count, lambda parts: total(parts, weights), self.engine
            )
        with self.engine.autocast():
            parts = self._prepared(batch)
        loss = total(parts, weights)
        self.engine.backward(loss)
        return loss, parts
