"""Decoder layers one token at a time against the same layers over whole texts."""

import pytest
import torch

from medground.models import layers
from medground.models.stepwise import Stepwise


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return layers.decoder(2, 16, 4, 32, 0.1).eval()


def whole(decoder, tokens, memory, hidden):
    """The outputs for (R, L, D) tokens, with causal attention."""
    length = tokens.shape[1]
    later = torch.ones(length, length, dtype=torch.bool).triu(1)
    return decoder(tokens, memory, tgt_mask=later, memory_key_padding_mask=hidden)


@torch.inference_mode()
def test_rows_that_split_and_end_have_the_outputs_of_whole_texts(decoder):
    memory, hidden = torch.randn(3, 5, 16), torch.zeros(3, 5, dtype=torch.bool)
    hidden[1, 3:] = True
    state, texts, sources = Stepwise(decoder, memory, hidden), None, torch.arange(3)
    for length in range(6):
        chosen = torch.randint(len(sources), (4 + length,)) if length else sources
        tokens = torch.randn(len(chosen), 16)
        sources = sources[chosen]
        texts = tokens[:, None] if texts is None else torch.cat([texts[chosen], tokens[:, None]], 1)
        found = state.extend(tokens, chosen, sources)
        expected = whole(decoder, texts, memory[sources], hidden[sources])[:, -1]
        assert torch.allclose(found, expected, atol=1e-5)
