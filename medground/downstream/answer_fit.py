"""The training of a head for answers, by itself or together with parts of the network.

The epoch with the best accuracy on the validation questions is kept; of equal ones, the one with the lowest
loss. The encoders, the fusion and the head have learning rates of their own, which rise over the first share
of the steps and then fall linearly to 0. Batch norm keeps its statistics.
"""

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from medground.downstream.answer_head import Run
from medground.downstream.answer_inputs import FUSION, Inputs, Progress
from medground.errors import MedgroundError
from medground.models.network import Network
from medground.records import Question

log = logging.getLogger(__name__)
MAX_GRAD_NORM = 1.0
FROZEN_LR = 1e-3  # the learning rate of a head on frozen features
ALL = "all"
PARTS: dict[str, tuple[str, ...]] = {  # --freeze
    "image-encoder": ("image_encoder",),
    "text-encoder": ("text_encoder", "to_tokens"),
    "visual": ("to_patches", "visual"),
}
ENCODING = {name for names in PARTS.values() for name in names} | {"to_joint", "kinds"}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The settings of a training. lr: of the encoders; the others follow from it if they are None."""

    epochs: int = 15
    batch_size: int = 16
    lr: float = 5e-6
    head_lr: float | None = None  # 50 * lr; FROZEN_LR if nothing else is trained
    fusion_lr: float | None = None  # 5 * lr
    weight_decay: float = 0.01
    warmup_ratio: float = 0.1
    freeze: tuple[str, ...] = ()

    @property
    def is_frozen(self) -> bool:
        """True if only the head is trained."""
        return ALL in self.freeze

    def lr_factor(self, step: int, steps: int) -> float:
        """Return the factor of the learning rates at a step, in (0, 1]."""
        rise = max(1, round(steps * self.warmup_ratio))
        if step < rise:
            return (step + 1) / rise
        return (steps - step) / max(1, steps - rise)


class Task(Protocol):
    """A head in training: `train` and `val` count its questions."""

    inputs: Inputs
    train: Sequence[Question]
    val: Sequence[Question]

    @property
    def head(self) -> nn.Module:
        """The module of the head."""

    def loss(self, rows: Sequence[int]) -> Tensor:
        """Return the mean loss of some training questions."""

    def validate(self, batch_size: int) -> tuple[float, float]:
        """Return the accuracy on the validation questions, and a loss that decides between equal ones."""


@dataclass(frozen=True)
class Training:
    """A plan for the training of a head, with the network unless all of it is frozen."""

    plan: Plan
    task: Task

    def run(self, seed: int, progress: Progress) -> Run:
        """Return the best epoch."""
        network, plan, head = self.task.inputs.model.network, self.plan, self.task.head
        trained = [] if plan.is_frozen else _thawed(network, plan.freeze, self.task.inputs.layer == FUSION)
        if plan.is_frozen:
            network.requires_grad_(False)
        optimizer = torch.optim.AdamW(self._groups(network))
        count = len(self.task.train)
        steps = plan.epochs * math.ceil(count / plan.batch_size)
        best, kept, step = (-1.0, -math.inf), None, 0
        for epoch in progress(range(1, plan.epochs + 1), f"seed {seed}, epochs", plan.epochs):
            self._train_mode(network)
            for rows in torch.randperm(count).split(plan.batch_size):
                self._step(optimizer, rows.tolist(), plan.lr_factor(step, steps))
                step += 1
            network.eval()
            head.eval()
            with torch.no_grad():
                accuracy, loss = self.task.validate(plan.batch_size)
            if (accuracy, -loss) > best:
                best = accuracy, -loss
                kept = Run(seed, epoch, round(accuracy, 6), _weights(head, network, trained))
        assert kept is not None
        found = seed, kept.epoch, plan.epochs, kept.accuracy
        log.info("seed %d: epoch %d of %d is kept, validation accuracy %.3f", *found)
        return kept

    def _groups(self, network: Network) -> list[dict[str, object]]:
        """Return the optimizer's groups: head, fusion and the rest; biases and norms do not decay."""
        plan = self.plan
        usual = FROZEN_LR if plan.is_frozen else 50 * plan.lr
        rates = {
            "head": usual if plan.head_lr is None else plan.head_lr,
            "fusion": 5 * plan.lr if plan.fusion_lr is None else plan.fusion_lr,
            "": plan.lr,
        }
        named = [("head", each) for each in self.task.head.parameters()]
        if not plan.is_frozen:
            for name, each in network.named_parameters():
                own = name.split(".")[0] in network.joint_parts
                named += [("fusion" if own else "", each)] if each.requires_grad else []
        found: dict[tuple[str, bool], list[nn.Parameter]] = {}
        for part, each in named:
            found.setdefault((part, each.ndim > 1), []).append(each)
        return [
            {
                "params": each,
                "lr": rates[part],
                "full_lr": rates[part],
                "weight_decay": plan.weight_decay * decays,
            }
            for (part, decays), each in found.items()
        ]

    def _train_mode(self, network: Network) -> None:
        self.task.head.train()
        if self.plan.is_frozen:
            return
        network.train()
        for part in self.plan.freeze:
            for name in PARTS[part]:
                getattr(network, name).eval()
        for each in network.modules():
            if isinstance(each, nn.modules.batchnorm._BatchNorm):
                each.eval()

    def _step(self, optimizer: torch.optim.Optimizer, rows: Sequence[int], factor: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = group["full_lr"] * factor
        loss = self.task.loss(rows)
        if not loss.isfinite():
            raise MedgroundError("the loss is not finite; give a smaller --lr or --head-lr")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        every = [each for group in optimizer.param_groups for each in group["params"]]
        nn.utils.clip_grad_norm_(every, MAX_GRAD_NORM)
        optimizer.step()


def _weights(head: nn.Module, network: Network, trained: Iterable[str]) -> dict[str, Tensor]:
    """Return copies of the head's weights and of the trained ones of the network."""
    own = {f"head.{name}": each for name, each in head.state_dict().items()}
    state = dict(network.named_parameters())
    own |= {f"network.{name}": state[name] for name in trained}
    return {name: each.detach().cpu().clone() for name, each in own.items()}


def _thawed(network: Network, frozen: Iterable[str], fused: bool) -> list[str]:
    """Make the parameters that features depend on trainable, without frozen ones; return their names."""
    used = {*ENCODING, *(network.joint_parts if fused else ())}
    used -= {name for part in frozen for name in PARTS[part]}
    names = []
    for name, each in network.named_parameters():
        each.requires_grad_(name.split(".")[0] in used)
        if each.requires_grad:
            names.append(name)
    return names
