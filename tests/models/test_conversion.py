"""A tiny network of each published definition, converted, has the same outputs and losses."""

import argparse
import json

import published_networks as published
import pytest
import torch
from published_networks import SIZE
from torch.nn import functional

from medground.compat_transformers import hide_broken_torchvision
from medground.errors import MedgroundError
from medground.models import conversion, encoders, grounder
from medground.models.conversion import Settings
from medground.objectives import agp
from medground.objectives import mdetr as losses

TEXTS = ["left lung", "small left pleural effusion, unchanged", "carina"]
TEXT_TOKENS = 16
SMALL = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """The folder of a tiny BERT with its tokenizer, and the BERT."""
    hide_broken_torchvision()
    import transformers

    folder = tmp_path_factory.mktemp("bert")
    words = encoders.build_tokenizer(TEXTS)
    words.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(**SMALL, vocab_size=len(words), max_position_embeddings=32)
    model = transformers.BertModel(config).eval()
    model.save_pretrained(folder)
    return folder, model


@pytest.fixture(scope="module")
def inputs(bert):
    """Three images with padding on the right or below, and three texts."""
    torch.manual_seed(1)
    images, mask = torch.rand(3, 1, SIZE, SIZE), torch.zeros(3, SIZE, SIZE, dtype=torch.bool)
    mask[0, :, 70:], mask[1, 100:] = True, True
    images = images * ~mask[:, None]
    ids, text_mask = encoders.tokenize(encoders.build_tokenizer(TEXTS), TEXTS, TEXT_TOKENS)
    ids, text_mask = (functional.pad(each, (0, TEXT_TOKENS - ids.shape[1])) for each in (ids, text_mask))
    return images, mask, ids, text_mask


def saved(network, path, **arguments):
    """Save a network as its authors do."""
    torch.save({"model": network.state_dict(), "args": argparse.Namespace(**arguments), "epoch": 3}, path)
    return path


def predicted(folder, images, mask):
    model = grounder.load(folder)
    ids, text_mask = model.tokenize(TEXTS)
    rows = torch.arange(3)
    with torch.no_grad():
        found = model.network(images, (~mask[:, None]).float(), ids, text_mask, rows, rows)
    return model, found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["transvg", "medrpg", "agp"])
def test_a_transvg_has_the_same_boxes_and_losses(kind, bert, inputs, tmp_path):
    torch.manual_seed(2)
    folder, model = bert
    network = published.TransVG(model, TEXT_TOKENS).eval()
    arguments = {"imsize": SIZE, "nheads": published.HEADS, "vl_nheads": published.HEADS, "dropout": 0.1}
    path = saved(network, tmp_path / "transvg.pth", **arguments)
    conversion.convert(path, tmp_path / "m", Settings(kind=kind, text_encoder=str(folder)))
    images, mask, ids, text_mask = inputs
    shown = published.normalized(images, mask)
    hidden = mask
    if kind == "agp":  # black padding, not masked
        shown, hidden = published.normalized(images, torch.zeros_like(mask)), torch.zeros_like(mask)
    with torch.no_grad():
        wanted = network(shown, hidden, ids, text_mask)
    model, found = predicted(tmp_path / "m", images, mask)
    assert model.config.text_tokens == TEXT_TOKENS
    assert model.config.decoder_layers == model.config.fusion_layers  # so that "paper" is recognized
    assert torch.allclose(found.boxes[:, 0], wanted, atol=1e-5)
    true = torch.rand(3, 4) / 2 + 0.2
    parts = agp.losses(found, true, torch.arange(3), model.network.places)
    assert parts["l1"].item() == pytest.approx((wanted - true).abs().sum().item() / 3, abs=1e-5)
    assert parts["giou"].item() == pytest.approx(1 - giou(wanted, true).mean().item(), abs=1e-5)


def giou(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The generalized IoU of boxes [cx, cy, w, h], by its definition."""
    (a, b), (c, d) = ((each[:, :2] - each[:, 2:] / 2, each[:, :2] + each[:, 2:] / 2) for each in (one, other))
    inner = (torch.minimum(b, d) - torch.maximum(a, c)).clamp(min=0).prod(1)
    union = one[:, 2:].prod(1) + other[:, 2:].prod(1) - inner
    hull = (torch.maximum(b, d) - torch.minimum(a, c)).prod(1)
    return inner / union - (hull - union) / hull


@pytest.mark.slow
def test_the_layers_of_a_detr_start_a_transvg(bert, inputs, tmp_path):
    torch.manual_seed(3)
    network = published.DETR().eval()
    path = saved(network, tmp_path / "detr.pth", nheads=published.HEADS)
    found = conversion.convert(path, tmp_path / "detr", Settings(kind="detr"))
    assert set(found.left_out.values()) == {
        "decoder of object queries", "object queries", "classes of objects", "boxes of object queries",
    }  # fmt: skip
    shape = {"width": published.WIDTH, "heads": published.HEADS, "feed_forward": published.INNER}
    shape |= {"visual_layers": 2, "norm": "post", "padding": "mean", "image_size": SIZE}
    made = grounder.build("small", TEXTS, image_encoder=str(tmp_path / "detr"), **shape)
    images, mask, *_ = inputs
    seen = []
    made.network.visual.register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.no_grad():
        small, wanted = network(published.normalized(images, mask), mask)
        encoded = made.network.eval().encode_images(images, (~mask[:, None]).float())
    assert torch.equal(encoded.visible, ~small)
    there = ~small.T[..., None]
    assert torch.allclose(seen[0].transpose(0, 1) * there, wanted * there, atol=1e-5)


def test_layers_of_a_detr_need_the_published_norms(tmp_path):
    path = saved(published.DETR(), tmp_path / "detr.pth")
    conversion.convert(path, tmp_path / "detr", Settings(kind="detr", heads=published.HEADS))
    with pytest.raises(MedgroundError, match="--norm post"):
        grounder.build("small", TEXTS, image_encoder=str(tmp_path / "detr"))


def converted_mdetr(bert, tmp_path):
    torch.manual_seed(4)
    network = published.MDETR(bert[1], queries=3).eval()
    path = saved(network, tmp_path / "mdetr.pth", nheads=published.HEADS)
    settings = Settings(kind="mdetr", text_encoder=str(bert[0]), image_size=SIZE)
    conversion.convert(path, tmp_path / "m", settings)
    return network


def test_an_mdetr_has_the_same_outputs_in_all_layers(bert, inputs, tmp_path):
    network = converted_mdetr(bert, tmp_path)
    images, mask, ids, text_mask = inputs
    with torch.no_grad():
        wanted = network(published.normalized(images, mask), mask, ids, text_mask)
    _, found = predicted(tmp_path / "m", images, mask)
    for ours, theirs in zip(found.more[:3], wanted[:3], strict=True):
        assert torch.allclose(ours, theirs.transpose(0, 1), atol=1e-5)
    tokens = found.more[3].shape[1]
    there = text_mask[:, :tokens, None]
    assert torch.allclose(found.more[3] * there, wanted[3][:, :tokens] * there, atol=1e-5)
    assert torch.allclose(found.scores.sigmoid(), 1 - wanted[1][-1].softmax(2)[..., -1], atol=1e-5)


def test_mdetrs_losses_against_a_slow_reference():
    """Two pairs: one with two true boxes, one with none; five tokens, of which three are the phrase's."""
    torch.manual_seed(5)
    words, mask = torch.randn(2, 3, 7), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], dtype=torch.bool)
    shares = losses.token_shares(mask, 7)
    assert shares[0].tolist() == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3, 0, 0, 0])
    assert shares[1].tolist() == [0, 1, 0, 0, 0, 0, 0]
    pair, query = torch.tensor([0, 0]), torch.tensor([2, 0])
    total = 0.0
    for n in range(2):
        for q in range(3):
            logs = words[n, q].log_softmax(0)
            total += -(logs * shares[n]).sum().item() if n == 0 and q != 1 else -0.1 * logs[-1].item()
    assert losses.soft_token_loss(words, shares, pair, query).item() == pytest.approx(total, abs=1e-5)
    logits, phrase = torch.randn(2, 3, 5), shares[:, :5] > 0
    total = sum(logits[0, q].logsumexp(0) - logits[0, q, 1:4].mean() for q in (0, 2))
    total += sum(logits[0, :, t].logsumexp(0) - logits[0, [0, 2], t].mean() for t in (1, 2, 3))
    found = losses.align_loss(logits, phrase, mask, pair, query)
    assert found.item() == pytest.approx(total.item() / 2, abs=1e-5)


def test_queries_are_matched_at_the_lowest_cost():
    boxes = torch.tensor([[0.2, 0.2, 0.2, 0.2], [0.8, 0.8, 0.2, 0.2]])
    found = torch.stack([boxes[[1, 0]], boxes])
    shares = torch.tensor([[0.0, 1, 0], [0, 1, 0]])
    pair, query, true = losses.match(found, torch.zeros(2, 2, 3), shares, boxes, torch.tensor([0, 0]))
    assert pair.tolist() == [0, 0]
    assert torch.equal(found[pair, query], true)


def test_every_tensor_is_accounted_for(bert, tmp_path):
    converted_mdetr(bert, tmp_path)
    record = json.loads((tmp_path / "m" / conversion.RECORD).read_text())
    own = grounder.load(tmp_path / "m").network.state_dict()
    new = own.keys() - record["sources"].keys()
    assert all(name.endswith("num_batches_tracked") for name in new)
    names = published.MDETR(bert[1], queries=3).state_dict()
    assert {*record["sources"].values(), *record["left_out"]} == names.keys()


def test_a_tensor_without_a_rule_and_a_missing_one_are_refused(bert, tmp_path):
    weights = published.DETR().state_dict()
    settings = Settings(kind="detr", heads=published.HEADS)
    torch.save({"model": weights | {"backbone.1.row_embed.weight": torch.zeros(2)}}, tmp_path / "a.pth")
    with pytest.raises(MedgroundError, match=r"1 tensors have no place .* backbone\.1\.row_embed"):
        conversion.convert(tmp_path / "a.pth", tmp_path / "a", settings)
    weights.pop("backbone.0.body.layer2.0.bn1.weight")
    torch.save({"model": weights}, tmp_path / "b.pth")
    with pytest.raises(MedgroundError, match=r"normalization\.weight is missing"):
        conversion.convert(tmp_path / "b.pth", tmp_path / "b", settings)
    assert not (tmp_path / "b").exists()


class Stranger:
    def __reduce__(self):
        return (print, ("code of a stranger",))


@pytest.mark.parametrize("arguments", [{"dilation": True}, {"pre_norm": True}])
def test_networks_of_another_shape_are_refused(arguments, tmp_path):
    path = saved(published.DETR(), tmp_path / "a.pth", **arguments)
    with pytest.raises(MedgroundError, match=next(iter(arguments))):
        conversion.convert(path, tmp_path / "a", Settings(kind="detr"))


def test_code_in_a_pickle_is_not_run(tmp_path, capsys):
    torch.save({"model": Stranger()}, tmp_path / "a.pth")
    with pytest.raises(MedgroundError, match="more than tensors"):
        conversion.convert(tmp_path / "a.pth", tmp_path / "a", Settings(kind="detr"))
    assert "stranger" not in capsys.readouterr().out
