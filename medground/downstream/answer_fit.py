"""The training of a head for answers, by itself or together with parts of the network.

With every part frozen, the joint features are computed once, and an epoch takes a moment. Else the network is
trained too: its fusion and its other parts have learning rates of their own. The epoch with the best accuracy
on the validation questions is kept; of equal ones, the one with the lowest loss.

The learning rate rises over the first share of the steps and then falls linearly to 0. Batch norm keeps its
statistics. Letters: N questions, E joint feature, K classes.
"""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medground.downstream import answer_head
from medground.downstream.answer_head import Head, Run
from medground.downstream.answer_inputs import Inputs
from medground.downstream.question_table import Classes
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
Progress = Callable[[Iterable[int], str, int], Iterable[int]]


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


@dataclass(frozen=True)
class Given:
    """Questions of one part, and the (N,) class of each answer."""

    questions: Sequence[Question]
    classes: Tensor


def given(questions: Sequence[Question], classes: Classes) -> Given:
    """Return the questions with the classes of their answers."""
    return Given(questions, torch.tensor(classes.index(questions)))


def computed(inputs: Inputs, questions: Sequence[Question], count: int, progress: Progress) -> Tensor:
    """Return the (N, E) joint features of the questions, on the CPU, in batches of `count`."""
    inputs.model.network.eval()
    starts = range(0, len(questions), count)
    with torch.inference_mode():
        found = [
            inputs.features(inputs.batch(questions[start : start + count])).float().cpu()
            for start in progress(starts, "batches of questions", len(starts))
        ]
    return torch.cat(found).clone()


@dataclass
class Trained:
    """A head, and a network unless it is frozen, in training. features: the frozen joint features by part."""

    plan: Plan
    inputs: Inputs
    head: Head
    train: Given
    val: Given
    features: tuple[Tensor, Tensor] | None = None

    def run(self, seed: int, progress: Progress) -> Run:
        """Return the best epoch of a training."""
        network = self.inputs.model.network
        trained = [] if self.plan.is_frozen else _thawed(network, self.plan.freeze, self.inputs.fused)
        optimizer = torch.optim.AdamW(self._groups(network))
        steps = self.plan.epochs * math.ceil(len(self.train.questions) / self.plan.batch_size)
        best, kept, step = (-1.0, -math.inf), None, 0
        for epoch in progress(range(1, self.plan.epochs + 1), f"seed {seed}, epochs", self.plan.epochs):
            self._train_mode(network)
            for rows in torch.randperm(len(self.train.questions)).split(self.plan.batch_size):
                self._step(optimizer, rows, self.plan.lr_factor(step, steps))
                step += 1
            accuracy, loss = self._validate()
            if (accuracy, -loss) > best:
                best = accuracy, -loss
                kept = Run(seed, epoch, round(accuracy, 6), self._weights(network, trained))
        assert kept is not None
        log.info(
            "seed %d: epoch %d of %d is kept, validation accuracy %.3f",
            seed,
            kept.epoch,
            self.plan.epochs,
            kept.accuracy,
        )
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
        named = [("head", each) for each in self.head.parameters()]
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
        self.head.train()
        if self.plan.is_frozen:
            return
        network.train()
        for part in self.plan.freeze:
            for name in PARTS[part]:
                getattr(network, name).eval()
        for each in network.modules():
            if isinstance(each, nn.modules.batchnorm._BatchNorm):
                each.eval()

    def _step(self, optimizer: torch.optim.Optimizer, rows: Tensor, factor: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = group["full_lr"] * factor
        loss = answer_head.loss(self._logits(self.train, 0, rows), self.train.classes[rows].to(self._device))
        if not loss.isfinite():
            raise MedgroundError("the loss is not finite; give a smaller --lr or --head-lr")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        every = [each for group in optimizer.param_groups for each in group["params"]]
        nn.utils.clip_grad_norm_(every, MAX_GRAD_NORM)
        optimizer.step()

    @property
    def _device(self) -> torch.device:
        return self.head.mean.device

    def _logits(self, given: Given, part: int, rows: Tensor) -> Tensor:
        """Return the logits of some questions of a part: 0 training, 1 validation."""
        if self.features is not None:
            result: Tensor = self.head(self.features[part][rows].to(self._device))
            return result
        batch = self.inputs.batch([given.questions[row] for row in rows.tolist()])
        found: Tensor = self.head(self.inputs.features(batch))
        return found

    @torch.no_grad()
    def _validate(self) -> tuple[float, float]:
        """Return the accuracy and the mean loss on the validation questions."""
        self.inputs.model.network.eval()
        self.head.eval()
        right, total = 0, 0.0
        for rows in torch.arange(len(self.val.questions)).split(self.plan.batch_size):
            logits, classes = self._logits(self.val, 1, rows), self.val.classes[rows].to(self._device)
            right += int((logits.argmax(dim=1) == classes).sum())
            total += float(answer_head.loss(logits, classes)) * len(rows)
        return right / len(self.val.questions), total / len(self.val.questions)

    def _weights(self, network: Network, trained: Iterable[str]) -> dict[str, Tensor]:
        """Return copies of the head's weights and of the trained ones of the network."""
        own = {f"head.{name}": each for name, each in self.head.state_dict().items()}
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
