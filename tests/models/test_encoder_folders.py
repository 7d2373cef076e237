"""Encoders that leave a model: transformers and our own options load them with the same outputs."""

import json
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

from medground.cli.main import cli
from medground.models import encoder_folders, encoders, grounder, pretrained
from medground.models.config import GrounderConfig
from medground.models.transvg import TransVG

TEXTS = ["small left effusion", "enlarged heart"]
VIT = {
    "model_type": "vit", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 32, "image_size": 64, "patch_size": 16,
}  # fmt: skip


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    model = grounder.build("small", TEXTS)
    model.network.eval()
    return model


def with_vit(small):
    """Return the model with a vision transformer as image encoder."""
    torch.manual_seed(1)
    pictures = encoders.build_image_encoder(VIT)
    plain = small.config.to_json() | {"image_encoder": encoders.to_plain(pictures), "image_size": 64}
    config = GrounderConfig.from_json(plain)
    return grounder.Grounder(
        config, TransVG(config, pictures, small.network.text_encoder).eval(), small.tokenizer
    )


@pytest.mark.slow
def test_transformers_loads_an_image_and_a_text_encoder_in_one_line(small, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    encoder_folders.save(small, tmp_path / "encoders")
    image = AutoModel.from_pretrained(f"{tmp_path}/encoders/image-encoder").eval()
    pixels = torch.rand(1, 1, 64, 64)
    expected = small.network.image_encoder(pixels).feature_maps[-1]
    assert torch.equal(image(pixels).last_hidden_state, expected)
    text = AutoModel.from_pretrained(f"{tmp_path}/encoders/text-encoder").eval()
    tokens = AutoTokenizer.from_pretrained(tmp_path / "encoders" / "text-encoder")(
        TEXTS[:1], return_tensors="pt"
    )
    ids, mask = small.tokenize(TEXTS[:1])
    own = small.network.text_encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    found = text(input_ids=tokens["input_ids"]).last_hidden_state
    assert torch.allclose(found, own[:, : found.shape[1]], atol=1e-5)


@pytest.mark.slow
def test_a_vision_transformer_is_saved_without_our_wrapper(small, tmp_path):
    from transformers import AutoModel

    model = with_vit(small)
    encoder_folders.save(model, tmp_path)
    found = AutoModel.from_pretrained(tmp_path / "image-encoder").eval()
    pixels = torch.rand(1, 3, 64, 64)
    assert torch.equal(
        found(pixels).last_hidden_state, model.network.image_encoder.model(pixels).last_hidden_state
    )


def test_our_options_load_the_folders_with_the_same_gray_values(small, tmp_path):
    encoder_folders.save(small, tmp_path)
    image = pretrained.load_image_encoder(str(tmp_path / "image-encoder"))
    pixels = torch.rand(1, 1, 64, 64)
    grey = pretrained.grey_of(str(tmp_path / "image-encoder"))
    assert torch.equal(
        encoders.feature_map(image.eval(), pixels, grey),
        encoders.feature_map(small.network.image_encoder, pixels),
    )
    _, tokenizer = pretrained.load_text_encoder(str(tmp_path / "text-encoder"))
    assert tokenizer.get_vocab() == small.tokenizer.get_vocab()


@pytest.mark.slow
def test_the_command_writes_the_same_bytes_again(small, tmp_path):
    grounder.save(tmp_path / "model", small)
    contents = []
    for _ in range(2):
        args = ["export", "--model", str(tmp_path / "model"), "--encoders", "-o", str(tmp_path / "out")]
        result = CliRunner().invoke(cli, args)
        assert result.exit_code == 0, result.stderr
        files = sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file())
        contents.append({str(path.relative_to(tmp_path)): path.read_bytes() for path in files})
    assert contents[0] == contents[1]
    facts = json.loads((tmp_path / "out" / "medground.json").read_text())
    assert facts["model"] == grounder.name_of(tmp_path / "model") and facts["equalized"] is True
    assert not list((tmp_path / "out").glob("*partial*"))


@pytest.mark.parametrize("grey", [None, [0.4, 0.2], [0.5, 0.4, 0.3, 0.1, 0.2, 0.3]])
def test_gray_values_are_written_for_each_channel(small, tmp_path, grey):
    model = replace(with_vit(small), config=replace(with_vit(small).config, grey=grey))
    written = encoder_folders.preprocessing(model)
    flat = [*written["image_mean"], *written["image_std"]]
    assert len(flat) == 6
    pixels = torch.rand(1, 1, 64, 64)
    encoder = model.network.image_encoder
    assert torch.allclose(
        encoders.feature_map(encoder, pixels, flat), encoders.feature_map(encoder, pixels, grey), atol=1e-6
    )


def test_public_has_no_effect_on_encoders_and_is_refused(tmp_path):
    args = ["export", "--model", str(tmp_path), "--encoders", "--public", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(cli, args)
    assert result.exit_code == 2 and "leave out --encoders or --public" in result.stderr
