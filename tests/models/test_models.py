"""Networks: encoding once equals running for every pair; folders round-trip; bad folders are one line."""

import contextlib
import errno
import json
import os
from dataclasses import replace

import pytest
import torch

from medground import registry
from medground.errors import MedgroundError
from medground.models import encoders, grounder, layers, mdetr
from medground.models.config import SIZES, GrounderConfig

TEXTS = ["left lung", "small left pleural effusion, unchanged", "carina"]


@pytest.fixture(scope="module")
def model() -> grounder.Grounder:
    return built("transvg")


def built(architecture: str) -> grounder.Grounder:
    torch.manual_seed(0)
    built = grounder.build("small", TEXTS, architecture=architecture)
    built.network.eval()
    return built


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["transvg", "mdetr", "text-query"])
def test_encoding_once_equals_running_the_network_for_every_pair(architecture):
    model = built(architecture)
    torch.manual_seed(1)
    pictures, inside = torch.rand(3, 1, 160, 160), torch.ones(3, 1, 160, 160)
    inside[1, :, :, :40] = 0
    ids, mask = model.tokenize(TEXTS)
    image_of, text_of = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 1, 1, 2, 0])
    together = model.network(pictures, inside, ids, mask, image_of, text_of)
    loss = sum(getattr(together, n).square().mean() for n in ("boxes", "scores", "present"))
    fast = torch.autograd.grad(loss, list(model.network.parameters()), allow_unused=True)
    answers = []
    for image, text in zip(image_of.tolist(), text_of.tolist(), strict=True):
        one, first = torch.tensor([0]), torch.tensor([0])
        ids, mask = model.tokenize([TEXTS[text]])
        picture = (pictures[image : image + 1], inside[image : image + 1])
        answers.append(model.network(*picture, ids, mask, one, first))
    apart = {n: torch.cat([getattr(each, n) for each in answers]) for n in ("boxes", "scores", "present")}
    assert all(torch.allclose(getattr(together, n), each, atol=1e-5) for n, each in apart.items())
    loss = sum(each.square().mean() for each in apart.values())
    slow = torch.autograd.grad(loss, list(model.network.parameters()), allow_unused=True)
    for a, b in zip(fast, slow, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.allclose(a, b, atol=1e-5)


@pytest.mark.slow
def test_the_first_output_is_that_of_the_whole_stack():
    torch.manual_seed(0)
    stack = layers.transformer(3, 16, 4, 32, 0.1).eval()
    tokens, hidden = torch.randn(5, 7, 16), torch.rand(5, 7) < 0.3
    hidden[:, 0] = False
    whole = stack(tokens, src_key_padding_mask=hidden)[:, 0]
    assert torch.allclose(layers.first_output(stack, tokens, hidden), whole, atol=1e-5)


def test_a_position_code_is_that_of_its_patch():
    grid = layers.sine_positions(4, 5, 32)
    places = torch.tensor([[(column + 0.5) / 5, (row + 0.5) / 4] for row in range(4) for column in range(5)])
    assert torch.allclose(layers.sine_code(places, 32), grid, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3, 8, 20])
def test_reference_points_are_spread_over_both_halves_of_an_image(count):
    places = mdetr.spread(count)
    assert ((places > 0.1) & (places < 0.9)).all()
    assert torch.allclose(places.mean(dim=0), torch.tensor([0.5, 0.5]), atol=0.16)
    assert count == 1 or torch.pdist(places).min() > 0.5 / count


@pytest.mark.slow
def test_a_query_looks_from_its_place():
    """Two queries that differ only in their reference points have different predictions."""
    model = built("mdetr")
    with torch.no_grad():
        model.network.queries[1] = model.network.queries[0]
    ids, mask = model.tokenize(TEXTS[:1])
    one = torch.tensor([0])
    said = model.network(torch.rand(1, 1, 160, 160), torch.ones(1, 1, 160, 160), ids, mask, one, one)
    assert not torch.allclose(said.boxes[0, 0], said.boxes[0, 1], atol=1e-3)


def test_padding_does_not_change_the_prediction_for_a_text(model):
    picture, inside = torch.rand(1, 1, 160, 160), torch.ones(1, 1, 160, 160)
    ids, mask = model.tokenize(TEXTS)
    padded = model.network(picture, inside, ids, mask, torch.tensor([0]), torch.tensor([0]))
    ids, mask = model.tokenize(TEXTS[:1])
    alone = model.network(picture, inside, ids, mask, torch.tensor([0]), torch.tensor([0]))
    assert torch.allclose(padded.boxes, alone.boxes, atol=1e-5)


def test_a_folder_gives_back_the_same_model(model, tmp_path):
    saved = grounder.save(tmp_path / "m", model)
    loaded = grounder.load(tmp_path / "m")
    assert loaded.name == saved.name != ""
    weights = loaded.network.state_dict()
    assert all(torch.equal(each, weights[name]) for name, each in model.network.state_dict().items())
    assert torch.equal(loaded.tokenize(TEXTS)[0], model.tokenize(TEXTS)[0])


def test_a_vocabulary_does_not_depend_on_the_order_of_texts():
    one, two = encoders.build_tokenizer(TEXTS), encoders.build_tokenizer(TEXTS[::-1] * 2)
    assert one.get_vocab() == two.get_vocab()


def test_unknown_words_are_spelled_not_lost(model):
    ids, _ = model.tokenize(["zygoma"])
    assert model.tokenizer.unk_token_id not in ids[0].tolist()


def test_a_long_text_is_cut_not_refused(model):
    ids, _ = model.tokenize(["left lung " * 200])
    assert ids.shape == (1, model.config.text_tokens)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_folder_that_lacks_a_part_is_named(model, tmp_path, name):
    grounder.save(tmp_path, model)
    (tmp_path / name).unlink()
    with pytest.raises(MedgroundError, match=f"no {name}"):
        grounder.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "other"}, "'other' is not known"),
        ({"heads_of_state": 3}, "unknown key 'heads_of_state'"),
        ({"width": 64}, "do not fit"),
    ],
)
def test_a_config_of_another_model_is_refused(model, tmp_path, change, message):
    grounder.save(tmp_path, model)
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(MedgroundError, match=message):
        grounder.load(tmp_path)


@pytest.mark.parametrize("architecture", ["transvg", "mdetr", "text-query"])
@pytest.mark.parametrize("size", ["small", "paper"])
def test_the_size_of_a_config_is_the_one_it_was_built_with(architecture, size):
    kind = registry.ARCHITECTURES[architecture].load()
    sizes = {"image_encoder": {}, "text_encoder": {}, **SIZES[size], **kind.own_sizes}
    config = GrounderConfig(architecture=architecture, equalise=True, queries=1, **sizes)
    assert grounder.size_of(config) == size
    assert grounder.size_of(replace(config, width=32)) is None


@pytest.fixture
def saved(model, tmp_path):
    """The folder of a model with a vocabulary of its own, and its files as they were."""
    grounder.save(tmp_path, grounder.build("small", ["an earlier vocabulary"]))
    return tmp_path, {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_a_save_that_fails_while_it_writes_leaves_the_model_before(model, saved, monkeypatch):
    folder, before = saved

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        grounder.save(folder, model)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.slow
@pytest.mark.parametrize("moves", range(10))
def test_a_save_cut_short_while_it_moves_is_noticed_or_whole(model, saved, monkeypatch, moves):
    folder, before = saved
    real, left = os.replace, iter([*[True] * moves, False])

    class Killed(BaseException):
        pass

    def replace(source, target):
        if not next(left, True):
            raise Killed
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with contextlib.suppress(Killed):
        grounder.save(folder, model)
    monkeypatch.undo()
    try:
        loaded = grounder.load(folder)
    except MedgroundError as error:
        assert "no model.safetensors" in str(error)
    else:
        own = {path.name: path.read_bytes() for path in folder.iterdir() if path.name in before}
        assert own == before or loaded.tokenizer.get_vocab() == model.tokenizer.get_vocab()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("tokenizer.json", '{"version', r"tokenizer\.json: damaged"),
        ("config.json", "[]", r"config\.json: no JSON object"),
        ("config.json", "\xff", r"config\.json: not JSON"),
        ("config.json", None, r"config\.json: width: expected `int`, got `str`"),
    ],
)
def test_a_damaged_part_is_one_message(model, tmp_path, name, text, said):
    grounder.save(tmp_path, model)
    if text is None:
        text = json.dumps(model.config.to_json() | {"width": "wide"})
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(MedgroundError, match=said):
        grounder.load(tmp_path)
