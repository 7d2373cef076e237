"""The learning rate over the steps, the end of a run, the optimizer and the frozen parts of a network."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from medground.models.network import Network
from medground.objectives.learner import Learner

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm, nn.Embedding)
DROP_AT, DROP = 2 / 3, 0.1  # AGP trains 90 epochs, the last 30 with a tenth of the learning rate [its code]
# --freeze; "visual" is the part between the image encoder and the joint encoder.
PARTS: dict[str, tuple[str, ...]] = {
    "image-encoder": ("image_encoder",),
    "text-encoder": ("text_encoder",),
    "visual": ("to_patches", "visual"),
}


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The settings of the loop, named like the long flags.

    The learning rate rises over the first `warmup_ratio` of the steps. Then it falls as a half cosine, or
    with `lr_schedule` "step" once, after two thirds.
    """

    steps: int
    lr: float
    encoder_lr: float | None = None  # `lr` if None
    weight_decay: float = 1e-4
    warmup_ratio: float = 0.05
    lr_schedule: str = "cosine"  # or "step"
    max_grad_norm: float = 1.0
    log_every: int = 20
    save_every: int = 200
    patience: int | None = None  # validations without improvement before the run ends
    ema_decay: float | None = None
    micro_batches: int = 1

    def lr_factor(self, step: int) -> float:
        """Return the factor of the learning rate at this step, in (0, 1]."""
        rise = max(1, round(self.steps * self.warmup_ratio))
        if step < rise:
            return (step + 1) / rise
        if self.lr_schedule == "step":
            return 1.0 if step < self.steps * DROP_AT else DROP
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, self.steps - rise)))

    def is_checkpoint(self, step: int) -> bool:
        """Return whether an undisturbed run validates and saves after this many steps."""
        return step % self.save_every == 0 or step == self.steps

    def is_over(self, step: int, best_step: int, best: float | None) -> bool:
        """Return whether a run ends after this many steps: all are done, or patience has run out."""
        impatient = (
            self.patience is not None
            and best is not None
            and self.is_checkpoint(step)
            and step - best_step >= self.patience * self.save_every
        )
        return step >= self.steps or impatient


def build_optimizer(learner: Learner, schedule: Schedule, fused: bool = False) -> torch.optim.Optimizer:
    """Return AdamW with the encoders' own learning rate; biases, norms and embeddings do not decay.

    The layers over the image encoder have the encoders' learning rate too: AGP, TransVG and MedRPG take them
    from a pre-trained detector [their code]. Frozen parameters are left out. `fused` is for GPUs: one kernel,
    with its step counts on the GPU.
    """
    network = learner.network
    slow = (network.image_encoder, network.to_patches, network.visual, network.text_encoder)
    encoders = {id(each) for part in slow for each in part.parameters()}
    kept = {
        id(each) for part in learner.modules() if isinstance(part, NORMS) for each in part.parameters(False)
    }
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for each in learner.parameters():
        if each.requires_grad:
            groups.setdefault((id(each) in encoders, each.ndim > 1 and id(each) not in kept), []).append(each)
    made: list[dict[str, Any]] = []
    for (of_encoder, decays), parameters in sorted(groups.items()):
        lr = (schedule.encoder_lr or schedule.lr) if of_encoder else schedule.lr
        decay = schedule.weight_decay if decays else 0.0
        made.append({"params": parameters, "lr": lr, "weight_decay": decay})
    return torch.optim.AdamW(made, fused=fused or None)


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's learning rate to this factor of the one that the optimizer was built with."""
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("full_lr", group["lr"]) * factor


def freeze(network: Network, parts: Iterable[str]) -> list[nn.Module]:
    """Return the modules of the named parts, without gradients; the loop keeps them in evaluation mode.

    So they stay the same to the last bit: no statistics of norms, no dropout and no weight decay.
    """
    frozen = [getattr(network, name) for part in parts for name in PARTS[part]]
    for module in frozen:
        module.requires_grad_(False)
    return frozen
