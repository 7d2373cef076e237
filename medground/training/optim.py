"""How long and how fast a run learns, and the optimiser that does it."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from medground.objectives.learner import Learner

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm, nn.Embedding)
LATE, SLOWER = 2 / 3, 0.1  # AGP trains 90 epochs, the last 30 of them at a tenth of the rate [its code]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Rates rise over the first `warmup` share, then fall: as a half cosine, or at once after two thirds."""

    steps: int
    rate: float
    encoder_rate: float
    weight_decay: float = 1e-4
    warmup: float = 0.05
    fall: str = "cosine"  # or "step"
    clip_norm: float = 1.0
    log_every: int = 20
    save_every: int = 200
    patience: int | None = None  # validations without a better one after which a run ends
    average: float | None = None  # how much of the mean of the weights each step keeps
    parts: int = 1  # that a step's batch is worked on in

    def share(self, step: int) -> float:
        """The share of the full rate at this step, in (0, 1]."""
        rise = max(1, round(self.steps * self.warmup))
        if step < rise:
            return (step + 1) / rise
        if self.fall == "step":
            return 1.0 if step < self.steps * LATE else SLOWER
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, self.steps - rise)))

    def is_beat(self, step: int) -> bool:
        """Whether this many steps are a time to validate and save, in a run that nobody stops."""
        return step % self.save_every == 0 or step == self.steps

    def is_over(self, step: int, best_step: int, best: float | None) -> bool:
        """Whether a run ends after this many steps: all done, or no better validation for too long."""
        tired = (
            self.patience is not None
            and best is not None
            and self.is_beat(step)
            and step - best_step >= self.patience * self.save_every
        )
        return step >= self.steps or tired


def build_optimizer(learner: Learner, schedule: Schedule, fused: bool = False) -> torch.optim.Optimizer:
    """AdamW with the encoders' own rate, and no decay of biases, norms and embeddings.

    The layers over the image learn at the encoders' rate too: they are part of what AGP, TransVG and MedRPG
    take from a pre-trained detector [their code]. Each group knows its full rate as "full"; parameters that
    no training moves are in none. `fused`: one kernel for all, on a GPU; its step counts then lie there too,
    also after a resume, where those of the plain one would be fetched one by one.
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
        rate = schedule.encoder_rate if of_encoder else schedule.rate
        decay = schedule.weight_decay if decays else 0.0
        made.append({"params": parameters, "lr": rate, "full": rate, "weight_decay": decay})
    return torch.optim.AdamW(made, fused=fused or None)


def set_rate(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Let each group have this share of its full rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["full"] * share
