"""The learning rate over the steps, the end of a run, the optimizer and the frozen parts of a network."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from medground.errors import MedgroundError
from medground.models import frozen_norms, stages
from medground.models.network import Network
from medground.objectives.learner import Learner

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm, nn.Embedding)
DROP_AT, DROP = 2 / 3, 0.1  # AGP trains 90 epochs, the last 30 with a tenth of the learning rate [its code]
EARLY = "early-stages"  # --freeze: the image encoder without its last stage
BATCH_NORM, STEM = "batch-norm", "stem"  # --freeze: parts of the image encoder that DETR does not train
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
    with `lr_schedule` "step" once, after `lr_drop` of them. That of the text encoder can fall linearly to 0.
    """

    steps: int
    lr: float
    encoder_lr: float | None = None  # `lr` if None
    text_lr: float | None = None  # `encoder_lr` if None
    text_schedule: str = "same"  # or "linear"
    text_warmup_ratio: float | None = None  # `warmup_ratio` if None
    lr_drop: float = DROP_AT
    decay_all: bool = False
    weight_decay: float = 1e-4
    warmup_ratio: float = 0.05
    lr_schedule: str = "cosine"  # or "step"
    max_grad_norm: float = 1.0  # 0: gradients are not clipped
    log_every: int = 20
    save_every: int = 200
    patience: int | None = None  # validations without improvement before the run ends
    ema_decay: float | None = None
    micro_batches: int = 1

    def lr_factor(self, step: int, of_text: bool = False) -> float:
        """Return the factor of the learning rate at this step, in (0, 1]."""
        ratio = self.text_warmup_ratio if of_text else None
        ratio = self.warmup_ratio if ratio is None else ratio
        rise = max(1, round(self.steps * ratio))
        if step < rise:
            return (step + 1) / rise
        if of_text and self.text_schedule == "linear":
            return (self.steps - step) / max(1, self.steps - rise)
        if self.lr_schedule == "step":
            return 1.0 if step < self.steps * self.lr_drop else DROP
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


def build_optimizer(learner: Learner, schedule: Schedule) -> torch.optim.Optimizer:
    """Return AdamW with the encoders' own learning rates; biases, norms and embeddings do not decay.

    The layers over the image encoder have the encoders' learning rate too: AGP, TransVG and MedRPG take them
    from a pre-trained detector [their code]. Without such layers the projection has the learning rate of the
    rest, as in MDETR. Frozen parameters are left out. With `decay_all` every parameter decays. All
    parameters are updated by one kernel.
    """
    network = learner.network
    layered = any(True for _ in network.visual.parameters())
    pictures = (network.image_encoder, *((network.to_patches, network.visual) if layered else ()))
    part_of = dict.fromkeys((id(each) for part in pictures for each in part.parameters()), "image")
    part_of |= dict.fromkeys(map(id, network.text_encoder.parameters()), "text")
    kept = {
        id(each) for part in learner.modules() if isinstance(part, NORMS) for each in part.parameters(False)
    }
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for each in learner.parameters():
        decays = schedule.decay_all or (each.ndim > 1 and id(each) not in kept)
        if each.requires_grad:
            groups.setdefault((part_of.get(id(each), ""), decays), []).append(each)
    image_lr = schedule.encoder_lr or schedule.lr
    rates = {"": schedule.lr, "image": image_lr, "text": schedule.text_lr or image_lr}
    made: list[dict[str, Any]] = []
    for (part, decays), parameters in sorted(groups.items()):
        decay = schedule.weight_decay if decays else 0.0
        made.append(
            {"params": parameters, "lr": rates[part], "weight_decay": decay, "of_text": part == "text"}
        )
    return torch.optim.AdamW(made, fused=True)


def set_lr(optimizer: torch.optim.Optimizer, factor: float, of_text: float | None = None) -> None:
    """Set each group's learning rate to this factor of the one that the optimizer was built with.

    of_text: the factor of the text encoder; None if it is the same.
    """
    for group in optimizer.param_groups:
        own = of_text if of_text is not None and group.get("of_text") else factor
        group["lr"] = group.setdefault("full_lr", group["lr"]) * own


def freeze(network: Network, parts: Iterable[str]) -> list[nn.Module]:
    """Return the modules of the named parts, without gradients; the loop keeps them in evaluation mode.

    So they stay the same to the last bit: no statistics of norms, no dropout and no weight decay.
    """
    parts = list(parts)
    frozen = [getattr(network, name) for part in parts for name in PARTS.get(part, ())]
    if BATCH_NORM in parts:
        frozen += norms_of(network.image_encoder)
        frozen_norms.fold(network.image_encoder)
    if EARLY in parts:
        frozen += stages.frozen(network.image_encoder)
    if STEM in parts:
        frozen += _stem(network.image_encoder)
    for module in frozen:
        module.requires_grad_(False)
    return frozen


def norms_of(module: nn.Module) -> list[nn.Module]:
    """Return the batch norms in the module."""
    return [each for each in module.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]


def _stem(encoder: Any) -> list[nn.Module]:
    """Return the first convolution and the first stage of a ResNet; raise MedgroundError for others."""
    if encoder.config.model_type != "resnet":
        raise MedgroundError(
            f"--freeze {STEM}: the image encoder is a {encoder.config.model_type}, not a ResNet"
        )
    return [encoder.embedder, encoder.encoder.stages[0]]
