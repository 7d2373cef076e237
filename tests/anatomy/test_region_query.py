"""The region-query network: its losses against slow ones."""

import pytest
import torch

from medground.anatomy import region_query
from medground.anatomy.region_query import Config, RegionQuery
from medground.errors import MedgroundError

NAMES = ("right lung", "left lung", "spine")
SMALL = Config(names=NAMES, size=32, channels=(8, 8, 16, 16), width=16, heads=2, layers=1)


def random_images(count: int, size: int = 32) -> torch.Tensor:
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(0))


def test_every_image_gets_one_box_and_one_logit_a_region():
    torch.manual_seed(0)
    boxes, logits = RegionQuery(SMALL)(random_images(2))
    assert boxes.shape == (2, 3, 4) and logits.shape == (2, 3)


def test_images_of_a_batch_do_not_see_each_other():
    torch.manual_seed(0)
    network = RegionQuery(SMALL).eval()
    together, alone = network(random_images(3)), network(random_images(3)[1:2])
    for whole, one in zip(together, alone, strict=True):
        assert torch.allclose(whole[1:2], one, atol=1e-5)


def test_the_config_comes_back_from_a_header():
    assert region_query.build_config(region_query.to_json(SMALL), "m") == SMALL


def test_another_config_is_refused():
    with pytest.raises(MedgroundError, match="m: not a region-query detector"):
        region_query.build_config({"kind": "yolo"}, "m")
    with pytest.raises(MedgroundError, match="unknown key 'depth'"):
        region_query.build_config(region_query.to_json(SMALL) | {"depth": 3}, "m")
    with pytest.raises(MedgroundError, match="multiple of 16"):
        Config(names=NAMES, size=50)


def slow_giou(a, b):
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    either = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - wide * high
    around = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return wide * high / either - (around - either) / around


def test_losses_against_a_slow_reference():
    random = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(1))
    truth = torch.tensor([0.2, 0.2, 0.6, 0.7]).expand(2, 3, 4)
    boxes = torch.cat([random[..., :2] * 0.5, 0.5 + random[..., 2:] * 0.5], dim=-1)
    logits = random[..., 0] * 4 - 2
    present = torch.tensor([[1.0, 0, -1], [1, 1, 0]])
    known = torch.tensor([[1.0, 0, 0], [1, 0, 0]])
    corners = overlap = presence = 0.0
    for b in range(2):
        for q in range(3):
            if known[b, q]:
                corners += float((boxes[b, q] - truth[b, q]).abs().sum()) / 4 / 2
                overlap += (1 - slow_giou(boxes[b, q].tolist(), truth[b, q].tolist())) / 2
            if present[b, q] >= 0:
                share = float(torch.sigmoid(logits[b, q]))
                presence -= float(torch.log(torch.tensor(share if present[b, q] else 1 - share))) / 5
    parts = region_query.loss_parts(boxes, logits, truth, known, present)
    expected = {"corners": corners, "overlap": overlap, "presence": presence}
    assert {name: float(each) for name, each in parts.items()} == pytest.approx(expected, rel=1e-5)


def test_a_batch_without_any_box_costs_nothing():
    boxes = torch.rand(2, 3, 4, requires_grad=True)
    nothing, nobody_knows = torch.zeros(2, 3), -torch.ones(2, 3)
    parts = region_query.loss_parts(boxes, torch.zeros(2, 3), torch.zeros(2, 3, 4), nothing, nobody_knows)
    assert all(each.item() == 0 for each in parts.values())
