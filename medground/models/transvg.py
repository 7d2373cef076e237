"""TransVG for phrase grounding (Deng et al. 2021; as trained in AGP, Zhang et al. 2025): one box per phrase.

Letters as in `models.network`; Q is 1.
"""

from typing import cast

import torch
from torch import Tensor, nn

from medground.models import encoders, layers
from medground.models.config import GrounderConfig
from medground.models.network import Network, Predictions
from medground.models.published import Encoder


class TransVG(Network):
    """A joint encoder of [REG], text and patches; the output of [REG] gives the box and the presence.

    With `norm` "post" it is the published network, with a presence logit in addition. Differences with "pre":
    norms come before attention, and positions in the joint encoder are sine codes, not learned. With
    `padding` "mean", padding has the mean color and is masked, as in TransVG. AGP's code has "visible".

    At least one fusion layer is required: without it [REG] does not depend on text or image.
    """

    has_table = True
    joint_parts = ("fusion", "reg", "table")

    def __init__(self, config: GrounderConfig, image_encoder: nn.Module, text_encoder: nn.Module):
        super().__init__(config, image_encoder, text_encoder)
        width, self.text_tokens = config.width, config.text_tokens
        self.reg = nn.Parameter(torch.randn(width) * 0.02)
        self.box = layers.mlp(width, width, width, 4)
        self.present = nn.Linear(width, 1)
        if self.is_post:
            patches = encoders.patch_count(image_encoder, config.image_size)
            self.table = nn.Embedding(1 + config.text_tokens + patches, width)
            self.to_joint = nn.Linear(width, width)
            nn.init.normal_(self.reg)
            nn.init.zeros_(self.present.weight)
            nn.init.zeros_(self.present.bias)

    def fuse(self, patches: Tensor, visible: Tensor, tokens: Tensor, mask: Tensor) -> Predictions:
        """Return the predictions as `Network.fuse`; the score of the box is the presence."""
        joint = self.joint(patches, visible, tokens, mask)
        present = self.present(joint)
        return Predictions(self.box(joint).sigmoid()[:, None], present, present[:, 0])

    def joint(self, patches: Tensor, visible: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return the (N, D) outputs of [REG]; the arguments are those of `fuse`."""
        together = self.together(patches, visible, tokens, mask)
        if self.is_post:
            return cast(Encoder, self.fusion).first(*together)
        return layers.first_output(self.fusion, *together)

    def together(self, patches: Tensor, visible: Tensor, tokens: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Return the input of the joint encoder: (N, 1 + T + P, D) tokens and their mask, True if ignored.

        The arguments are those of `fuse`. The tokens are [REG], text and patches. With `norm` "post", the
        third is (1 + T + P, D) their learned positions; those of patches come after the longest text.
        """
        count = patches.shape[0]  # not len(): an export would keep it as a constant
        reg = self.reg.expand(count, 1, -1)
        hidden = ~torch.cat([mask.new_ones(count, 1), mask, visible], dim=1)
        joint = torch.cat([reg, tokens, patches], dim=1)
        if not self.is_post:
            return joint, hidden
        places = self.table.weight
        texts, first = places[: 1 + tokens.shape[1]], 1 + self.text_tokens
        return joint, hidden, torch.cat([texts, places[first : first + patches.shape[1]]])

    def attended(self, *together: Tensor) -> tuple[Tensor, Tensor]:
        """Return (N, L, D) outputs and (N, L, L) attention of the last layer for the result of `together`."""
        if self.is_post:
            return cast(Encoder, self.fusion).attended(*together)
        return layers.attended(self.fusion, *together)
