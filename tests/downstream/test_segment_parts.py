"""Decoders by the encoder's maps, losses against loops over pixels, views and masks in squares."""

import json
import math

import numpy as np
import pytest
import torch

from medground import run_lengths
from medground.boxes import Letterbox
from medground.downstream.image_encoders import ImageEncoder
from medground.downstream.segment import decoders, images, losses, stage, views
from medground.errors import MedgroundError
from medground.models import encoders, lite
from medground.models.config import SMALL_IMAGE_ENCODER
from medground.records import Mask

VIT = {
    "model_type": "vit", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 32, "image_size": 64, "patch_size": 16,
}  # fmt: skip
RESNET = {
    "model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}  # fmt: skip
BUILDS = {
    "small": lambda: encoders.build_image_encoder(SMALL_IMAGE_ENCODER),
    "resnet": lambda: encoders.build_image_encoder(RESNET),
    "lite0": lite.Lite,
    "vit": lambda: encoders.build_image_encoder(VIT),
}
SIDES = {"small": [32, 16, 8, 4], "resnet": [32, 16, 8, 4, 2], "lite0": [32, 16, 8, 4, 2], "vit": [4]}


def encoder_of(name, size=64):
    torch.manual_seed(0)
    network = BUILDS[name]().eval()
    return ImageEncoder(name, network, size, False, None)


# Feature maps and decoders


@pytest.mark.parametrize("name", BUILDS)
def test_an_encoder_gives_one_map_for_each_stride_and_last_its_output(name):
    encoder = encoder_of(name)
    square = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        maps = encoder.maps(square, torch.ones_like(square))
        assert [each.shape[-1] for each in maps] == SIDES[name]
        if name != "lite0":  # its output also has cells of the finer stride
            assert torch.equal(maps[-1], encoder.network(encoder.pixels(square, square)).feature_maps[-1])
        pooled = encoder.pooled(square, torch.ones_like(square))
    assert [(each.shape[1], each.shape[-1]) for each in maps] == stage.maps_of(encoder)
    assert pooled.shape[0] == 1 and not encoder.network.training


def test_the_first_map_of_a_resnet_is_that_before_its_pooling():
    encoder = encoder_of("resnet")
    square = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        first = encoder.maps(square, torch.ones_like(square))[0]
        pixels = encoder.pixels(square, torch.ones_like(square))
        assert torch.equal(first, encoder.network.embedder.embedder(pixels))
    assert not encoder.network.embedder.embedder._forward_hooks, "no hook is left"


@pytest.mark.parametrize("name", BUILDS)
@pytest.mark.parametrize("size", [64, 96])
def test_the_logits_have_the_size_of_the_square_and_the_decoder_fits_the_encoder(name, size):
    encoder = encoder_of(name, size)
    shape = decoders.shape_of(stage.maps_of(encoder), size, 3)
    assert shape.name == ("setr-pup" if name == "vit" else "unet")
    assert shape.widths == {"small": (128, 64, 32, 16), "vit": (512, 256, 128, 64)}.get(
        name, (256, 128, 64, 32, 16)
    )
    square = torch.rand(2, 1, size, size)
    with torch.inference_mode():
        found = shape.build().eval()(encoder.maps(square, torch.ones_like(square)))
    assert found.shape == (2, 3, size, size)
    again = decoders.Shape.from_json(json.loads(json.dumps(shape.to_json())))
    assert again == shape


def test_widths_and_patches_of_other_sizes():
    odd = decoders.shape_of([(12, 5)], 70, 1, widths=(8, 4))  # patches of 14 pixels
    assert odd.build()([torch.rand(1, 12, 5, 5)]).shape == (1, 1, 70, 70)
    pup = decoders.shape_of([(4, 32), (8, 16)], 64, 1, "setr-pup", (8, 8))
    assert pup.build()([torch.rand(1, 4, 32, 32), torch.rand(1, 8, 16, 16)]).shape == (1, 1, 64, 64)
    with pytest.raises(MedgroundError, match="expected 2 numbers"):
        decoders.shape_of([(4, 32), (8, 16)], 64, 1, widths=(8,))
    with pytest.raises(MedgroundError, match="--decoder unet needs an encoder with several maps"):
        decoders.shape_of([(4, 4)], 64, 1, "unet")


def test_the_stages_of_setr_pup_are_those_of_the_paper():
    names = [type(each).__name__ for each in decoders.shape_of([(12, 4)], 64, 1).build().modules()]
    assert names.count("BatchNorm2d") == names.count("ReLU") == 4
    assert [names.count(each) for each in ("Conv2d", "ConvTranspose2d")] == [6, 0]  # a projection, 4, and 1


# Losses


def drawn(seed, shape=(2, 2, 5, 4)):
    made = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=made) * 3
    masks = (torch.rand(shape, generator=made) < 0.3).float()
    inside = (torch.rand((shape[0], 1, *shape[2:]), generator=made) < 0.8).float()
    return logits, masks, inside


@pytest.mark.parametrize("seed, gamma", [(0, 2.0), (1, 2.0), (2, 0.5), (3, 0.0)])
def test_the_focal_loss_is_that_of_a_loop_over_pixels(seed, gamma):
    logits, masks, inside = drawn(seed)
    total = count = 0
    for b, k, y, x in np.ndindex(*logits.shape):
        if inside[b, 0, y, x]:
            p = 1 / (1 + math.exp(-float(logits[b, k, y, x])))
            p = p if masks[b, k, y, x] else 1 - p
            total, count = total - (1 - p) ** gamma * math.log(p), count + 1
    assert float(losses.focal(logits, masks, inside, gamma)) == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_soft_dice_and_the_sum_are_those_of_a_loop_over_pixels(seed):
    logits, masks, inside = drawn(seed)
    dice = []
    for k in range(logits.shape[1]):
        both = sizes = 0
        for b, y, x in np.ndindex(logits.shape[0], *logits.shape[2:]):
            if inside[b, 0, y, x]:
                p, t = 1 / (1 + math.exp(-float(logits[b, k, y, x]))), float(masks[b, k, y, x])
                both, sizes = both + p * t, sizes + p + t
        dice.append((2 * both + 1) / (sizes + 1))
    assert losses.soft_dice(logits, masks, inside).tolist() == pytest.approx(dice, rel=1e-5)
    expected = 7 * losses.focal(logits, masks, inside, 2.0) - 3 * np.mean(np.log(dice))
    assert float(losses.mixed(logits, masks, inside, 7, 2.0, 3)) == pytest.approx(float(expected), rel=1e-5)


def test_a_certain_and_right_prediction_has_no_loss_and_finite_gradients():
    masks = drawn(0)[1]
    logits = ((masks * 2 - 1) * 200).requires_grad_()
    loss = losses.mixed(logits, masks, torch.ones(2, 1, 5, 4))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6) and torch.isfinite(logits.grad).all()


# Views, and masks in squares


def test_a_view_moves_the_mask_with_the_image_and_depends_on_its_generator_only():
    masks = torch.zeros(3, 1, 40, 40)
    masks[:, :, 8:20, 10:30] = 1
    both = torch.cat([masks, torch.ones(3, 1, 40, 40)], dim=1)
    ranges = views.Ranges(probability=1.0, scale=0.3, rotate=40)
    rngs = [np.random.default_rng(n) for n in range(3)]
    images_of, masks_of = views.draw(both, masks, ranges, rngs)
    assert not torch.equal(masks_of, masks)
    agree = ((images_of[:, :1] > 0.5).float() == masks_of).float().mean()
    assert agree > 0.97, "nearest and bilinear differ at the border only"
    alone = views.draw(both[1:2], masks[1:2], ranges, [np.random.default_rng(1)])
    assert torch.equal(alone[0][0], images_of[1]) and torch.equal(alone[1][0], masks_of[1])
    never = views.draw(both, masks, views.Ranges(probability=0.0), rngs)
    assert torch.allclose(never[0], both, atol=1e-5) and torch.equal(never[1], masks)


@pytest.mark.parametrize("width, height", [(60, 48), (48, 60), (200, 130), (64, 64)])
def test_a_mask_returns_from_its_square_in_the_size_of_its_image(width, height):
    rows, columns = np.mgrid[:height, :width]
    disc = (columns - width / 2) ** 2 + (rows - height / 3) ** 2 < (height / 4) ** 2
    counts = run_lengths.packed(disc)
    mask = Mask(image_id="i", path="i", width=width, height=height, category="a", counts=counts)
    place = Letterbox(width, height, 64)
    square = images.square_of(mask, place)
    assert square.shape == (64, 64) and square.sum() == pytest.approx(
        disc.sum() * (64 / max(width, height)) ** 2, rel=0.1
    )
    back = images.original_of(torch.from_numpy(square).float()[None], place, 0.5)[0]
    assert back.shape == disc.shape
    assert 2 * (back & disc).sum() / (back.sum() + disc.sum()) > 0.9
