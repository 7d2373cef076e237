"""TransVG for phrase grounding (Deng et al. 2021; as trained in AGP, Zhang et al. 2025): one box per phrase.

Letters as in `models.network`; Q is 1.
"""

import torch
from torch import Tensor, nn

from medground.models import layers
from medground.models.config import GrounderConfig
from medground.models.network import Network, Predictions


class TransVG(Network):
    """A joint encoder of [REG], text and patches; the output of [REG] gives the box and the presence.

    Differences from the published network: norms come before attention, not after. Positions in the joint
    encoder are sine codes, not learned. There is a presence logit. Padding is black and masked; TransVG masks
    padding of the mean color, and AGP's code does not mask its black padding.

    At least one fusion layer is required: without it [REG] does not depend on text or image.
    """

    def __init__(self, config: GrounderConfig, image_encoder: nn.Module, text_encoder: nn.Module):
        super().__init__(config, image_encoder, text_encoder)
        width = config.width
        self.reg = nn.Parameter(torch.randn(width) * 0.02)
        self.box = layers.mlp(width, width, width, 4)
        self.present = nn.Linear(width, 1)

    def fuse(self, patches: Tensor, visible: Tensor, tokens: Tensor, mask: Tensor) -> Predictions:
        """Return the predictions as `Network.fuse`; the score of the box is the presence."""
        joint = layers.first_output(self.fusion, *self.together(patches, visible, tokens, mask))
        present = self.present(joint)
        return Predictions(self.box(joint).sigmoid()[:, None], present, present[:, 0])

    def together(
        self, patches: Tensor, visible: Tensor, tokens: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the input of the joint encoder: (N, 1 + T + P, D) tokens and their mask, True if ignored.

        The arguments are those of `fuse`. The tokens are [REG], text and patches.
        """
        count = patches.shape[0]  # not len(): an export would keep it as a constant
        reg = self.reg.expand(count, 1, -1)
        hidden = ~torch.cat([mask.new_ones(count, 1), mask, visible], dim=1)
        return torch.cat([reg, tokens, patches], dim=1), hidden
