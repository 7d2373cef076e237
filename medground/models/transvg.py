"""TransVG for phrase grounding (Deng et al. 2021; as AGP trains it, Zhang et al. 2025): one box a phrase.

Letters as in `models.network`; Q is 1.
"""

import torch
from torch import Tensor, nn

from medground.models import layers
from medground.models.config import GrounderConfig
from medground.models.network import Answers, Network


class TransVG(Network):
    """[REG] + text + patches through a joint encoder; the [REG] token's output becomes box and presence.

    Ours, where the published network does otherwise: norms stand before attention, not after; positions in
    the joint encoder are sines of the patch's place, not learned; the presence logit; patches of the
    letterbox's padding are hidden.

    Needs at least one fusion layer: without it the [REG] token sees neither text nor image.
    """

    def __init__(self, config: GrounderConfig, image_encoder: nn.Module, text_encoder: nn.Module):
        super().__init__(config, image_encoder, text_encoder)
        width = config.width
        self.reg = nn.Parameter(torch.randn(width) * 0.02)
        self.box = layers.mlp(width, width, width, 4)
        self.present = nn.Linear(width, 1)

    def fuse(self, patches: Tensor, seen: Tensor, tokens: Tensor, mask: Tensor) -> Answers:
        """As `Network.fuse`; the one box is as likely as that there is something to show."""
        joint = layers.first_output(self.fusion, *self.together(patches, seen, tokens, mask))
        present = self.present(joint)
        return Answers(self.box(joint).sigmoid()[:, None], present, present[:, 0])

    def together(self, patches: Tensor, seen: Tensor, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What goes into the joint encoder: (N, 1 + T + P, D) [REG], tokens and patches, and where not to
        look; as `fuse` is given them."""
        count = patches.shape[0]  # not len(): an export would keep it as a constant
        reg = self.reg.expand(count, 1, -1)
        hidden = ~torch.cat([mask.new_ones(count, 1), mask, seen], dim=1)
        return torch.cat([reg, tokens, patches], dim=1), hidden
