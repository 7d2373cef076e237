"""An architecture: its boxes come from the mean of a phrase's tokens and an image's patches."""

import torch
from torch import nn

from medground.models import network


class Averaging(network.Network):
    """Mean token and mean patch through one layer."""

    def __init__(self, config, image_encoder, text_encoder):
        super().__init__(config, image_encoder, text_encoder)
        self.head = nn.Linear(2 * config.width, 5)

    def fuse(self, patches, visible, tokens, mask):
        """As `Network.fuse`."""
        means = [
            (each * kept[..., None]).sum(1) / kept.sum(1, keepdim=True)
            for each, kept in ((patches, visible), (tokens, mask))
        ]
        found = self.head(torch.cat(means, dim=1))
        present = found[:, 4:]
        return network.Predictions(found[:, None, :4].sigmoid(), present, present[:, 0])
