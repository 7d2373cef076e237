"""Network and objectives as one module: what is trained, and what several processes share."""

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from medground import registry
from medground.models import layers
from medground.models.grounder import Grounder
from medground.models.network import Answers, Images
from medground.objectives.objective import Encoded, Objective


class Pulls(Protocol):
    """A direction in which the outputs for a part of a batch are to move."""

    def along(self, encoded: Encoded) -> Tensor:
        """How far these outputs lie in that direction: a scalar."""


class Learner(nn.Module):
    """A network with the heads of its objectives; its forward gives the named losses of a batch."""

    def __init__(
        self, model: Grounder, names: Iterable[str] = ("agp",), weights: dict[str, float] | None = None
    ):
        super().__init__()
        names, self.chosen = list(dict.fromkeys(names)), weights or {}
        features = _features(model)
        registry.check_losses(names, self.chosen, model.config.architecture, features)
        self.network = model.network
        self.objectives = nn.ModuleDict({name: _objective(name, model, features) for name in names})
        self.fuses = any(registry.OBJECTIVES[name].fuses for name in names)

    def _each(self) -> Iterable[Objective]:
        return self.objectives.values()  # type: ignore[return-value]

    def forward(self, batch: Any, pulls: "Pulls | None" = None) -> dict[str, Tensor]:
        """The unweighted losses of all objectives; images and texts are encoded once for all of them.

        With `pulls`, `batch` is the inputs of a part, and what comes back is one number, "pull", whose
        gradient is the part's share of the gradient of the losses (see training.accumulate).
        """
        if pulls is not None:
            return {"pull": pulls.along(self.encode(*batch))}
        return self.losses(self.encode(*batch.inputs()), batch)

    def encode(
        self, film: Tensor, inside: Tensor, ids: Tensor, mask: Tensor, image_of: Tensor, text_of: Tensor
    ) -> Encoded:
        """What the network makes of a batch's inputs; pairs are fused where an objective asks for it."""
        images = self.network.encode_images(film, inside)
        tokens = self.network.encode_texts(ids, mask)
        answers = None
        if self.fuses:
            answers = self._answers(images, tokens, mask, image_of, text_of)
        return Encoded(images, tokens, mask, answers)

    def _answers(
        self, images: Images, tokens: Tensor, mask: Tensor, image_of: Tensor, text_of: Tensor
    ) -> Answers:
        if not len(image_of):  # torch's attention knows no empty batch: ask one thing, and forget the answer
            one = self._answers(images, tokens, mask, image_of.new_zeros(1), text_of.new_zeros(1))
            return Answers(one.boxes[:0], one.scores[:0], one.present[:0])
        patches, seen = layers.rows(images.patches, image_of), images.seen[image_of]
        return self.network.fuse(patches, seen, layers.rows(tokens, text_of), mask[text_of])

    def losses(self, encoded: Encoded, batch: Any) -> dict[str, Tensor]:
        """The unweighted losses of all objectives, of what `encode` made of the batch."""
        return {name: part for each in self._each() for name, part in each(encoded, batch).items()}

    def weights(self, progress: float) -> dict[str, float]:
        """The weight of every loss when this share of the training is done. The user's own stand for the
        defaults: where an objective lets a weight rise, it rises to them."""
        return {
            name: self.chosen.get(name, weight) * each.ramp(progress)
            for each in self._each()
            for name, weight in each.defaults.items()
        }


def _features(model: Grounder) -> frozenset[str]:
    """Return the features of the model's architecture that it has with its own config."""
    features = registry.ARCHITECTURES[model.config.architecture].features
    return features - {"several-boxes"} if model.network.most_boxes == 1 else features


def _objective(name: str, model: Grounder, features: frozenset[str]) -> Objective:
    """Return the objective of this name, with the default weights of the losses that the model has."""
    entry = registry.OBJECTIVES[name]
    objective: Objective = entry.load()(model)
    objective.defaults = entry.weights(features)
    return objective


def total(parts: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """The weighted sum of named losses; a weight without a loss, or a loss without a weight, is a bug."""
    if parts.keys() != weights.keys():
        raise KeyError(f"losses {sorted(parts)} but weights {sorted(weights)}")
    return torch.stack([weights[name] * part for name, part in parts.items()]).sum()
