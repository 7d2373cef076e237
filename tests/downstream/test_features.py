"""Features of frozen encoders: the same from every folder, and one file that a later run continues."""

import json

import numpy as np
import pytest
import torch
import toy
from safetensors.numpy import load_file

from medground import checkpoints, ops
from medground.data.feature_maps import FeatureMaps
from medground.downstream import features, frozen_encoders
from medground.errors import MedgroundError
from medground.models import encoder_folders, encoders, grounder, letterboxed, lite
from medground.models.config import GrounderConfig
from medground.models.transvg import TransVG
from medground.objectives import heads

VIT = {
    "model_type": "vit", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 32, "image_size": 64, "patch_size": 16,
}  # fmt: skip
ABOUT = {"encoder": "e", "images": "i"}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return grounder.build("small", ["bright spot"], image_size=64)


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    toy.make(folder, count=5)
    return folder


@pytest.fixture(scope="module")
def both(image_folder):
    return torch.stack([letterboxed.read(image_folder / f"image{n}.png", 64).picture() for n in range(5)])


@pytest.mark.slow
def test_a_model_folder_and_its_exported_encoders_give_the_same_features(model, both, tmp_path):
    saved = grounder.save(tmp_path / "model", model)
    encoder_folders.save(saved, tmp_path / "encoders")
    own = frozen_encoders.load(str(tmp_path / "model"))
    other = frozen_encoders.load(str(tmp_path / "encoders"))
    assert (own.size, own.width, own.name) == (64, 128, saved.name) and other.size == 64
    found = own(both[:, :1], both[:, 1:])
    assert torch.allclose(found, other(both[:, :1], both[:, 1:]), atol=1e-5)
    network = model.network.eval()
    images = network.encode_images(both[:, :1], both[:, 1:])
    visual = frozen_encoders.load(str(tmp_path / "model"), "visual")
    assert torch.allclose(visual(both[:, :1], both[:, 1:]), heads.pooled(images), atol=1e-5)


def test_features_of_maps_are_those_of_their_images(model, both, image_folder, tmp_path):
    grounder.save(tmp_path / "model", model)
    visual = frozen_encoders.load(str(tmp_path / "model"), "visual")
    names = [f"image{n}.png" for n in range(5)]
    maps = FeatureMaps(tmp_path / "maps", image_folder, visual.network, visual.size)
    maps.add(names, lambda found, _: found)
    target = tmp_path / "features.safetensors"
    features.write(target, visual, names, ABOUT, image_folder, 2, maps)
    expected = visual(both[:, :1], both[:, 1:]).numpy()
    np.testing.assert_allclose(features.read(target), expected, atol=1e-2)


@pytest.mark.slow
def test_the_feature_of_a_vision_transformer_is_its_first_token(model, both, tmp_path):
    pictures = encoders.build_image_encoder(VIT)
    config = GrounderConfig.from_json(
        model.config.to_json() | {"image_encoder": encoders.to_plain(pictures), "image_size": 64}
    )
    network = TransVG(config, pictures, model.network.text_encoder).eval()
    grounder.save(tmp_path, grounder.Grounder(config, network, model.tokenizer))
    found = frozen_encoders.load(str(tmp_path))(both[:, :1], both[:, 1:])
    equal = (ops.equalize(both[:, :1]) + 1) / 2 * both[:, 1:]
    mean, deviation = encoders.THREE_CHANNELS
    tokens = pictures.model(pixel_values=((equal - mean) / deviation).expand(-1, 3, -1, -1))
    assert torch.allclose(found, tokens.last_hidden_state[:, 0], atol=1e-5)


@pytest.mark.slow
def test_a_pretrained_encoder_alone_is_an_encoder(both, tmp_path):
    torch.manual_seed(0)
    network = lite.Lite().eval()
    checkpoints.save(tmp_path / "model.safetensors", network.state_dict(), {"model_type": lite.MODEL_TYPE})
    (tmp_path / "config.json").write_text(json.dumps({"model_type": lite.MODEL_TYPE}))
    shades = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(shades))
    encoder = frozen_encoders.load(str(tmp_path), size=60)
    assert (encoder.size, encoder.width) == (64, 768)
    expected = network((both[:, :1] * 2 - 1).expand(-1, 3, -1, -1)).feature_maps[-1].mean(dim=(2, 3))
    assert torch.allclose(encoder(both[:, :1], both[:, 1:]), expected, atol=1e-5)


def test_the_visual_layers_need_a_model(tmp_path):
    with pytest.raises(MedgroundError, match="--layer visual needs the folder of a grounding model"):
        frozen_encoders.load(str(tmp_path), "visual")


def counting(encoder_of=lambda images: images.mean(dim=(2, 3)).repeat(1, 3), stop=None):
    """Return an encoder of width 3 and the list of its batches; it fails at the batch `stop`."""
    seen = []

    def run(images, inside):
        if images.any():
            seen.append(len(images))
            if stop is not None and len(seen) > stop:
                raise MedgroundError("stopped")
        return encoder_of(images)

    return frozen_encoders.FrozenEncoder("e", 32, run), seen


def paths(count):
    return [f"image{n % 5}.png" for n in range(count)]


def test_the_file_is_one_of_safetensors_and_an_interrupted_one_is_continued(image_folder, tmp_path):
    whole, _ = counting()
    features.write(tmp_path / "whole", whole, paths(11), ABOUT, image_folder, 4)
    expected = load_file(tmp_path / "whole")["features"]
    assert expected.shape == (11, 3) and expected.dtype == np.float32
    assert np.array_equal(features.read(tmp_path / "whole"), expected)
    broken, _ = counting(stop=2)
    with pytest.raises(MedgroundError, match="stopped"):
        features.write(tmp_path / "f", broken, paths(11), ABOUT, image_folder, 4)
    assert not (tmp_path / "f").exists()
    with (tmp_path / "f.partial").open("ab") as stream:
        stream.write(b"xyz")  # half a row, as a killed process leaves it
    again, seen = counting()
    features.write(tmp_path / "f", again, paths(11), ABOUT, image_folder, 4)
    assert sum(seen) == 3, "only the rest is encoded"
    assert (tmp_path / "f").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_partial_file_of_other_images_is_begun_again(image_folder, tmp_path):
    broken, _ = counting(stop=1)
    with pytest.raises(MedgroundError):
        features.write(tmp_path / "f", broken, paths(8), ABOUT, image_folder, 4)
    again, seen = counting()
    features.write(tmp_path / "f", again, paths(8), ABOUT | {"images": "others"}, image_folder, 4)
    assert sum(seen) == 8


def test_features_of_another_encoder_are_refused_and_those_of_this_one_are_kept(image_folder, tmp_path):
    encoder, seen = counting()
    features.write(tmp_path / "f", encoder, paths(4), ABOUT, image_folder)
    features.write(tmp_path / "f", encoder, paths(4), ABOUT, image_folder)
    assert len(seen) == 1
    with pytest.raises(MedgroundError, match="features of another encoder"):
        features.write(tmp_path / "f", encoder, paths(4), ABOUT | {"encoder": "x"}, image_folder)


def test_an_image_that_cannot_be_read_is_named_and_loses_nothing(image_folder, tmp_path):
    encoder, _ = counting()
    with pytest.raises(MedgroundError, match=r"none\.png: No such file"):
        features.write(tmp_path / "f", encoder, [*paths(8), "none.png"], ABOUT, image_folder, 2)
    assert features._rows_of(tmp_path / "f.partial", features._header(9, 3, ABOUT), 12) >= 4


def test_features_that_are_not_finite_are_refused(image_folder, tmp_path):
    encoder, _ = counting(lambda images: images.mean(dim=(2, 3)).repeat(1, 3) / 0 * 0)
    with pytest.raises(MedgroundError, match="not finite"):
        features.write(tmp_path / "f", encoder, paths(2), ABOUT, image_folder)
