"""EfficientNet-Lite as an image encoder, and the architecture that queries its patches by text."""

import json

import pytest
import torch

from medground import checkpoints, ops
from medground.errors import MedgroundError
from medground.models import encoders, grounder, lite, pretrained, pyramid, stages
from medground.models.config import GrounderConfig
from medground.models.text_query import TextQuery


def test_the_feature_map_has_both_scales_and_norms_never_learn():
    torch.manual_seed(0)
    encoder = encoders.build_image_encoder({"model_type": lite.MODEL_TYPE})
    found = encoders.feature_map(encoder, torch.rand(2, 1, 64, 96), lite.GREY)
    assert found.shape == (2, 768, 2, 3) and encoder.channels == [768]
    before = encoder.stem.norm.running_mean.clone()
    encoder.train()(torch.rand(2, 3, 64, 64))
    assert torch.equal(before, encoder.stem.norm.running_mean)
    assert encoders.to_plain(encoder) == {"model_type": lite.MODEL_TYPE}


@pytest.mark.parametrize(("size", "before", "after"), [("lite0", 640, 768), ("lite2", 688, 832)])
def test_the_last_stage_continues_the_map_of_the_others(size, before, after):
    torch.manual_seed(0)
    encoder = lite.Lite(f"efficientnet-{size}").eval()
    assert encoder.channels == [after]
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        early = stages.early(encoder, images)
        assert early.shape == (1, before, 2, 2)
        torch.testing.assert_close(stages.late(encoder, early), encoder(images).feature_maps[0])
    learns = set(encoder.parameters()) - {
        each for part in stages.frozen(encoder) for each in part.parameters()
    }
    assert learns == set(encoder.stages[-1].parameters())


def test_the_maps_of_a_pair_are_of_lite0_and_of_both_copies_by_lite2():
    torch.manual_seed(0)
    pair = encoders.build_image_encoder({"model_type": lite.PAIR}).eval()
    images = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        found = pair(images).feature_maps[-1]
        one, two, flipped = (
            encoder(some).feature_maps[-1]
            for encoder, some in ((pair.one, images), (pair.two, images), (pair.two, images.flip(3)))
        )
        torch.testing.assert_close(found, torch.cat([one, (two + flipped.flip(3)) / 2], dim=1))
        torch.testing.assert_close(stages.late(pair, stages.early(pair, images)), found)
        assert [each.shape[1] for each in pyramid.maps(pair, images)] == [32, 48, 88, 232, 672]
    assert pair.channels == [1600] and pair.first == 768
    learns = set(pair.parameters()) - {each for part in stages.frozen(pair) for each in part.parameters()}
    assert learns == {*pair.one.stages[-1].parameters(), *pair.two.stages[-1].parameters()}


def test_with_a_pair_findings_depend_on_lite2_and_boxes_on_lite0():
    torch.manual_seed(0)
    words = encoders.build_tokenizer(["left lung"])
    text_encoder = {"model_type": "bert", "vocab_size": len(words), "hidden_size": 32, "num_hidden_layers": 1}
    text_encoder |= {"num_attention_heads": 2, "intermediate_size": 32}
    config = GrounderConfig.from_json(
        {
            "architecture": "text-query",
            "image_encoder": {"model_type": lite.PAIR},
            "text_encoder": text_encoder,
        }
        | {"findings": ["Effusion"], "familiar": 2, "members": 2, "fusion_layers": 1}
    )
    network = TextQuery(
        config, encoders.build_image_encoder(config.image_encoder), encoders.build_text_encoder(text_encoder)
    ).eval()
    maps, inside = torch.rand(1, 1600, 4, 4), torch.ones(1, 1, 4, 4)
    tokens, mask = torch.rand(1, 3, 2 * config.width), torch.ones(1, 3).bool()

    def found(maps):
        encoded = network.encode_images(maps, inside)
        boxes = network.fuse(*encoded[:2], tokens, mask).boxes
        return boxes, network.found(encoded.patches), encoded.patches[0, 0, -1]

    with torch.inference_mode():
        before, of_two = found(maps), found(torch.cat([maps[:, :768], maps[:, 768:] + 1], dim=1))
        of_one = found(torch.cat([maps[:, :768] + torch.rand(1, 768, 4, 4), maps[:, 768:]], dim=1))
    same = [[torch.allclose(a, b) for a, b in zip(before, after, strict=True)] for after in (of_one, of_two)]
    assert same == [[False, True, False], [True, False, True]]  # boxes, findings, distance


def test_an_encoder_without_stages_is_refused():
    vit = {"model_type": "vit", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    with pytest.raises(MedgroundError, match="early-stages: the image encoder is a vit"):
        stages.frozen(encoders.build_image_encoder(vit))


def test_a_convolution_of_stride_two_is_padded_at_the_end():
    """As TensorFlow does for even sides; torch's symmetric padding would move the map by a pixel."""
    conv = lite.Conv(1, 1, 3, 2)
    conv.conv.weight.data.fill_(1.0)
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 0, 0] = 1.0
    assert conv.eval()(image).nonzero().tolist() == [[0, 0, 0, 0]]
    assert lite.Conv(1, 1, 3).padding == (1, 1, 1, 1) and lite.Conv(1, 1, 5, 2).padding == (1, 2, 1, 2)


@pytest.mark.parametrize("kind", lite.MODEL_TYPES)
def test_weights_of_a_folder_are_loaded_and_others_refused(tmp_path, kind):
    torch.manual_seed(1)
    encoder = lite.build(kind)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    checkpoints.save(tmp_path / "model.safetensors", encoder.state_dict(), {})
    found = pretrained.load_image_encoder(str(tmp_path))
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), encoder.parameters(), strict=True))
    alike = [
        pretrained.same_shape({"model_type": each}, str(tmp_path), "image encoder")
        for each in lite.MODEL_TYPES
    ]
    assert alike == [each == kind for each in lite.MODEL_TYPES]
    checkpoints.save(tmp_path / "model.safetensors", {"other": torch.zeros(1)}, {})
    with pytest.raises(MedgroundError):
        pretrained.load_image_encoder(str(tmp_path))


def test_a_text_query_gives_boxes_inside_the_square_and_ignores_padding():
    torch.manual_seed(0)
    model = grounder.build("small", ["left lung", "right lung"], architecture="text-query")
    network = model.network.eval()
    pictures, inside = torch.rand(2, 1, 160, 160), torch.ones(2, 1, 160, 160)
    inside[:, :, :, :48] = 0
    pictures = pictures * inside
    ids, mask = model.tokenize(["left lung", "right lung"])
    images, tokens = network.encode_images(pictures, inside), network.encode_texts(ids, mask)
    whole = network.fuse(images.patches, images.visible, tokens, mask)
    kept = images.visible[0]
    cut = network.fuse(images.patches[:, kept], images.visible[:, kept], tokens, mask)
    corners = ops.cxcywh_to_xyxy(whole.boxes)
    assert (corners[..., 2:] > corners[..., :2]).all() and not torch.allclose(corners[0], corners[1])
    assert torch.allclose(whole.boxes, cut.boxes, atol=1e-5) and torch.allclose(
        whole.present, cut.present, atol=1e-5
    )


def with_facts(**more):
    torch.manual_seed(0)
    model = grounder.build("small", ["left lung", "right lung"], architecture="text-query", **more)
    return model.network.eval(), *model.tokenize(["left lung", "right lung"])


@torch.no_grad()
def test_findings_of_the_image_and_the_text_query_share_the_presence():
    network, ids, mask = with_facts(findings=["Effusion", "Mass"])
    images, tokens = torch.rand(2, 1, 160, 160), network.encode_texts(ids, mask)
    encoded = network.encode_images(images, torch.ones_like(images))
    network.names.weight.data.zero_()
    network.names.bias.data.copy_(torch.tensor([0.0, 0.0, 50.0]))  # no finding is named
    alone = network.fuse(*encoded[:2], tokens, mask)
    network.names.bias.data.copy_(torch.tensor([0.0, 50.0, 0.0]))
    network.share.data.fill_(0.25)
    mixed = network.fuse(*encoded[:2], tokens, mask)
    of_image = encoded.patches[:, 0, -1]
    assert torch.allclose(mixed.present, of_image + 0.25 * alone.present, atol=1e-5)
    assert torch.equal(mixed.boxes, alone.boxes)


@torch.no_grad()
def test_offsets_of_named_findings_change_the_score_only():
    network, ids, mask = with_facts(findings=["Effusion", "Mass"], score_offsets=[2.0, -3.0])
    images, tokens = torch.rand(2, 1, 160, 160), network.encode_texts(ids, mask)
    encoded = network.encode_images(images, torch.ones_like(images))
    assert "score_offsets" not in network.state_dict()  # they are in the config
    network.names.weight.data.zero_()
    for named, offset in enumerate([2.0, -3.0, 0.0]):  # the last is another finding
        network.names.bias.data.copy_(50.0 * torch.eye(3)[named])
        found = network.fuse(*encoded[:2], tokens, mask)
        assert (found.scores[:, 0] - found.present).tolist() == pytest.approx([offset, offset], abs=1e-5)


@torch.no_grad()
def test_the_distance_is_the_length_outside_the_axes_and_ignores_padding():
    network, ids, mask = with_facts(familiar=1)
    channels = network.typical.shape[0]
    network.axes.data[0, 0], network.limit.data = 1.0, torch.tensor(2.0)
    features = torch.zeros(1, channels)
    features[0, :3] = torch.tensor([5.0, 3.0, 4.0])
    assert network.distance(features).item() == pytest.approx(2.5)
    maps = torch.ones(1, channels, 6, 4)
    maps[:, :, 0] = 9.0
    visible = torch.ones(1, 1, 6, 4)
    visible[:, :, 0] = 0
    encoded = network.encode_maps(maps, visible)
    assert encoded.patches[0, :, -1].tolist() == pytest.approx([(channels - 1) ** 0.5 / 2] * 24)
    assert network.fuse(
        encoded.patches.expand(2, -1, -1),
        encoded.visible.expand(2, -1),
        network.encode_texts(ids, mask),
        mask,
    ).boxes.shape == (2, 1, 4)


@torch.no_grad()
def test_boxes_of_named_findings_are_mixed_with_their_place_in_the_lungs():
    network, ids, mask = with_facts(findings=["Effusion", "Mass"], placed=True, familiar=1, members=2)
    network.lungs.data.copy_(torch.randn(network.lungs.shape))
    for member in (network, *network.members):
        member.offset.bias.data.copy_(torch.tensor([-0.3, -0.3, 0.3, 0.3]))  # large lungs
    images, tokens = torch.rand(2, 1, 160, 160), network.encode_texts(ids, mask)
    encoded = network.encode_images(images, torch.ones_like(images))
    frame = network.frame_of(encoded.patches)
    assert (frame[:, 2:] > frame[:, :2]).all() and not torch.allclose(frame[0], frame[1])
    network.place[-1].weight.data.zero_()
    network.place[-1].bias.data.copy_(torch.tensor([0.25, 0.75, 0.5, 0.5]))  # the lower left quarter
    network.names.weight.data.zero_()
    network.names.bias.data.copy_(torch.tensor([0.0, 50.0, 0.0]))
    alone = ops.cxcywh_to_xyxy(network.fuse(*encoded[:2], tokens, mask).boxes[:, 0])
    network.place_share.data.fill_(0.25)
    mixed = ops.cxcywh_to_xyxy(network.fuse(*encoded[:2], tokens, mask).boxes[:, 0])
    (x1, y1, x2, y2) = frame.T
    quarter = torch.stack([x1, (y1 + y2) / 2, (x1 + x2) / 2, y2], dim=1)
    assert torch.allclose(mixed, 0.75 * alone + 0.25 * quarter, atol=1e-5)
    network.names.bias.data.copy_(torch.tensor([0.0, 0.0, 50.0]))  # no finding is named
    unnamed = ops.cxcywh_to_xyxy(network.fuse(*encoded[:2], tokens, mask).boxes[:, 0])
    assert torch.allclose(unnamed, alone, atol=1e-5)


def alone(network, member):
    """A network without members that has the weights of one of them."""
    model = grounder.build("small", ["left lung", "right lung"], architecture="text-query")
    model.network.load_state_dict(network.state_dict(), strict=False)
    model.network.load_state_dict(member.state_dict(), strict=False)
    return model.network.eval()


@pytest.mark.slow
@torch.no_grad()
def test_boxes_and_logits_of_members_are_averaged():
    network, ids, mask = with_facts(members=3, familiar=1)
    pictures, inside = torch.rand(2, 1, 160, 160), torch.ones(2, 1, 160, 160)
    inside[:, :, :, :48] = 0
    assert not any("encoder" in name for name in network.members.state_dict())

    def found(some):
        images, tokens = some.encode_images(pictures, inside), some.encode_texts(ids, mask)
        return some.fuse(images.patches, images.visible, tokens, mask)

    each = [found(alone(network, member)) for member in (network, *network.members)]
    assert not torch.allclose(each[0].boxes, each[1].boxes, atol=1e-3)
    together = found(network)
    assert torch.allclose(together.boxes, torch.stack([one.boxes for one in each]).mean(0), atol=1e-5)
    assert torch.allclose(together.present, torch.stack([one.present for one in each]).mean(0), atol=1e-5)
    assert network.encode_images(pictures, inside).patches[0, :, -1].isfinite().all()


def test_a_loss_on_the_mean_trains_every_member():
    network, ids, mask = with_facts(members=2)
    images = network.encode_images(torch.rand(2, 1, 160, 160), torch.ones(2, 1, 160, 160))
    network.fuse(*images[:2], network.encode_texts(ids, mask), mask).boxes.sum().backward()
    assert all(one.steps[0].query.weight.grad.abs().sum() > 0 for one in (network, *network.members))
