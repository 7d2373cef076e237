"""The head for answers whose question attends to the patches."""

import torch

from medground.downstream.answer_classes import AttentionHead
from medground.models.config import SMALL_IMAGE_ENCODER, SMALL_TEXT_ENCODER, GrounderConfig

WIDTH, CHANNELS = 32, 8


def made(patches):
    torch.manual_seed(0)
    config = GrounderConfig(image_encoder=SMALL_IMAGE_ENCODER, text_encoder=SMALL_TEXT_ENCODER, width=WIDTH)
    return AttentionHead(config, patches, CHANNELS, 3)


def test_a_head_with_attention_sees_the_places_of_patches_but_no_padding():
    head = made(5).eval()
    patches, tokens = torch.randn(2, 5, CHANNELS), torch.randn(2, 3, WIDTH)
    visible, mask = torch.tensor([[True] * 3 + [False] * 2] * 2), torch.tensor([[True, True, False]] * 2)
    with torch.no_grad():
        before = head(patches, visible, tokens, mask)
        patches[:, 3:], tokens[:, 2:] = 9.0, 9.0
        assert torch.allclose(head(patches, visible, tokens, mask), before, atol=1e-5)
        exchanged = patches.clone()
        exchanged[:, 0, :3], exchanged[:, 1, :3] = patches[:, 1, :3], patches[:, 0, :3]
        assert torch.allclose(exchanged.mean(dim=1), patches.mean(dim=1), atol=1e-5)
        assert not torch.allclose(head(exchanged, visible, tokens, mask), before, atol=1e-4)


def test_patches_are_scaled_by_the_visible_ones_of_all_batches():
    head = made(4)
    patches, visible = 3 + 5 * torch.randn(6, 4, CHANNELS), torch.rand(6, 4) > 0.3
    head.standardize([(patches[:4], visible[:4]), (patches[4:], visible[4:])])
    for place in range(4):
        assert torch.allclose(head.mean[place], patches[visible[:, place], place].mean(dim=0), atol=1e-5)
    apart = (patches - head.mean)[visible]
    assert torch.allclose(head.scale, apart.square().mean(dim=0).sqrt(), atol=1e-5)
