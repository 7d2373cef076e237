"""The network and its objectives as one module, which is trained and shared by several processes."""

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from medground import registry
from medground.models import layers
from medground.models.grounder import Grounder
from medground.models.network import EncodedImages, Predictions
from medground.objectives.objective import Encoded, Objective


class Pulls(Protocol):
    """Gradients of the losses with respect to the outputs for a micro-batch."""

    def along(self, encoded: Encoded) -> Tensor:
        """Return the scalar product of these outputs with the gradients."""


class Learner(nn.Module):
    """A network with the heads of its objectives; its forward returns the named losses of a batch."""

    def __init__(
        self, model: Grounder, names: Iterable[str] = ("agp",), weights: dict[str, float] | None = None
    ):
        super().__init__()
        names, self.chosen = list(dict.fromkeys(names)), weights or {}
        features = _features(model)
        registry.check_losses(names, self.chosen, model.config.architecture, features)
        self.network = model.network
        self.objectives = nn.ModuleDict({name: _objective(name, model, features) for name in names})
        for each in self._each():
            weights = dict(each.defaults) | self.chosen
            each.skipped = frozenset(loss for loss in each.defaults if not weights[loss])
        self.fuses = any(registry.OBJECTIVES[name].fuses for name in names)
        self.encodes_texts = self.fuses or any(each.uses_tokens for each in self._each())

    def _each(self) -> Iterable[Objective]:
        return self.objectives.values()  # type: ignore[return-value]

    def forward(self, batch: Any, pulls: "Pulls | None" = None) -> dict[str, Tensor]:
        """Return the unweighted losses of all objectives; images and texts are encoded once for all.

        With `pulls`, `batch` has the inputs of a micro-batch. The result is then one number, "pull", whose
        gradient is the micro-batch's part of the gradient of the losses (see `training.grad_cache`).
        """
        if pulls is not None:
            return {"pull": pulls.along(self.encode(*batch))}
        return self.losses(self.encode(*batch.inputs()), batch)

    def encode(
        self, pixels: Tensor, inside: Tensor, ids: Tensor, mask: Tensor, image_of: Tensor, text_of: Tensor
    ) -> Encoded:
        """Return the network's outputs for a batch's inputs.

        Texts are encoded and pairs are fused if an objective uses them.
        """
        images = self.network.encode_images(pixels, inside)
        if self.encodes_texts:
            tokens = self.network.encode_texts(ids, mask)
        else:
            tokens = images.patches.new_zeros(*ids.shape, self.network.width)
        predictions = None
        if self.fuses:
            predictions = self._fused(images, tokens, mask, image_of, text_of)
        return Encoded(images, tokens[..., : self.network.width], mask, predictions)

    def _fused(
        self, images: EncodedImages, tokens: Tensor, mask: Tensor, image_of: Tensor, text_of: Tensor
    ) -> Predictions:
        if not len(image_of):  # torch's attention takes no empty batch: fuse one pair and drop it
            one = self._fused(images, tokens, mask, image_of.new_zeros(1), text_of.new_zeros(1))
            return Predictions.of(each[:0] for each in one.tensors())
        patches, visible = layers.rows(images.patches, image_of), images.visible[image_of]
        return self.network.fuse(patches, visible, layers.rows(tokens, text_of), mask[text_of])

    def losses(self, encoded: Encoded, batch: Any) -> dict[str, Tensor]:
        """Return the unweighted losses of all objectives for the outputs of `encode`."""
        return {name: part for each in self._each() for name, part in each(encoded, batch).items()}

    def weights(self, progress: float) -> dict[str, float]:
        """Return the weight of every loss at this share of the training, in [0, 1].

        Weights of the user replace the defaults. A weight with a ramp rises to them.
        """
        return {
            name: self.chosen.get(name, weight) * each.ramp(progress)
            for each in self._each()
            for name, weight in each.defaults.items()
        }


def _features(model: Grounder) -> frozenset[str]:
    """Return the features of the model's architecture that it has with its own config."""
    features = registry.ARCHITECTURES[model.config.architecture].features
    if model.config.norm != "post":
        features -= {"soft-tokens"}
    return features - {"several-boxes"} if model.network.most_boxes == 1 else features


def _objective(name: str, model: Grounder, features: frozenset[str]) -> Objective:
    """Return the objective of this name, with the default weights of the losses that the model has."""
    entry = registry.OBJECTIVES[name]
    objective: Objective = entry.load()(model)
    objective.defaults = entry.weights(features)
    return objective


def total(parts: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """Return the weighted sum of named losses; raise KeyError if losses and weights differ in names."""
    if parts.keys() != weights.keys():
        raise KeyError(f"losses {sorted(parts)} but weights {sorted(weights)}")
    return torch.stack([weights[name] * part for name, part in parts.items()]).sum()
