"""The losses, each compared with a slow, obvious reference."""

import itertools
from types import SimpleNamespace

import pytest
import torch

from medground import ops
from medground.errors import MedgroundError
from medground.models import grounder
from medground.models.network import Predictions
from medground.objectives import agp
from medground.objectives.learner import Learner, total


def slow_giou(a: list[float], b: list[float]) -> float:
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = a, b
    inner = max(0, min(ax2, bx2) - max(ax1, bx1)) * max(0, min(ay2, by2) - max(ay1, by1))
    either = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - inner
    hull = (max(ax2, bx2) - min(ax1, bx1)) * (max(ay2, by2) - min(ay1, by1))
    return inner / either - (hull - either) / hull


def answers(boxes: torch.Tensor, present: list[float]) -> Predictions:
    """Return predictions of a network with one box per pair."""
    logits = torch.tensor(present)
    return Predictions(boxes[:, None], logits[:, None], logits)


CENTRE = torch.tensor([[0.5, 0.5]])
FOUR = torch.tensor([[0.2, 0.2], [0.8, 0.2], [0.2, 0.8], [0.8, 0.8]])


def owners(*rows: int) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.long)


def slow_box_loss(found: torch.Tensor, true: torch.Tensor) -> float:
    overlap = slow_giou(ops.cxcywh_to_xyxy(found).tolist(), ops.cxcywh_to_xyxy(true).tolist())
    return 5 * (found - true).abs().sum().item() + 2 * (1 - overlap)


def test_the_l1_loss_of_corners_is_over_their_four_numbers():
    found, true = torch.tensor([[0.4, 0.5, 0.2, 0.4]]), torch.tensor([[0.5, 0.5, 0.4, 0.2]])
    given = (answers(found, [0.0]), true, owners(0), CENTRE)
    # corners: 0.3, 0.3, 0.5, 0.7 and 0.3, 0.4, 0.7, 0.6
    by_corners, by_sides = agp.losses(*given, corners=True), agp.losses(*given)
    assert by_corners["l1"].item() == pytest.approx(0.0 + 0.1 + 0.2 + 0.1)
    assert by_sides["l1"].item() == pytest.approx(0.1 + 0.0 + 0.2 + 0.2)
    assert by_corners["giou"] == by_sides["giou"]


def test_box_losses_of_absent_findings_are_0():
    torch.manual_seed(0)
    found, true = torch.rand(3, 4), torch.rand(1, 4)
    all_of_it = agp.losses(answers(found, [0.0] * 3), true, owners(0), CENTRE)
    first = agp.losses(answers(found[:1], [0.0]), true, owners(0), CENTRE)
    assert all_of_it["l1"].item() == pytest.approx(first["l1"].item())
    assert all_of_it["giou"].item() == pytest.approx(first["giou"].item())


@pytest.mark.parametrize("queries", [1, 3])
def test_a_batch_that_shows_nothing_is_finite(queries):
    logits = torch.tensor([1.0, -1.0])
    predictions = Predictions(torch.rand(2, queries, 4), logits[:, None].expand(-1, queries), logits)
    parts = agp.losses(predictions, torch.zeros(0, 4), owners(), FOUR[:queries])
    assert parts["l1"].item() == parts["giou"].item() == parts.get("near", 0) == 0
    assert all(each.isfinite() for each in parts.values())


def test_one_box_for_several_is_the_box_around_them():
    corner = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.5, 0.1, 0.6, 0.3], [0.2, 0.2, 0.4, 0.9]])
    true = torch.cat([(corner[:, :2] + corner[:, 2:]) / 2, corner[:, 2:] - corner[:, :2]], dim=1)
    around = ops.cxcywh_to_xyxy(agp.hulls(true, owners(0, 0, 2), 3, boxed=2))
    assert torch.allclose(around[0], torch.tensor([0.1, 0.1, 0.6, 0.4]))
    assert torch.equal(around[1], torch.zeros(4))
    assert torch.allclose(around[2], corner[2])


@pytest.mark.parametrize("seed", range(5))
def test_matching_is_the_cheapest_of_all_assignments(seed):
    torch.manual_seed(seed)
    found, logits, true = torch.rand(2, 4, 4) * 0.8 + 0.1, torch.randn(2, 4), torch.rand(5, 4) * 0.8 + 0.1
    box_of = owners(0, 1, 1, 0, 1)
    far = torch.rand(5, 4)
    pair, query, matched = agp.match(found, logits, true, box_of, far)

    def cost(n: int, q: int, box: torch.Tensor) -> float:
        (row,) = (true == box).all(dim=1).nonzero()[0].tolist()
        fit = slow_box_loss(found[n, q], box) - logits[n, q].sigmoid().item()
        return fit + 5 * far[row, q].item()

    for n in range(2):
        own = true[box_of == n]
        best = min(
            sum(cost(n, q, b) for q, b in zip(order, own, strict=True))
            for order in itertools.permutations(range(4), len(own))
        )
        rows = zip(query[pair == n].tolist(), matched[pair == n], strict=True)
        assert sum(cost(n, q, b) for q, b in rows) == pytest.approx(best, abs=1e-5)


def test_of_more_boxes_than_queries_the_dearest_stay_without():
    found = torch.tensor([[[0.2, 0.2, 0.1, 0.1], [0.8, 0.8, 0.1, 0.1]]])
    true = torch.tensor([[0.5, 0.5, 0.9, 0.9], [0.8, 0.8, 0.1, 0.1], [0.2, 0.2, 0.1, 0.1]])
    pair, query, matched = agp.match(found, torch.zeros(1, 2), true, owners(0, 0, 0), torch.zeros(3, 2))
    assert len(pair) == 2
    assert torch.equal(found[0, query], matched)


def test_only_matched_queries_are_taught_a_high_score():
    logits = torch.zeros(1, 2, requires_grad=True)
    found = torch.tensor([[[0.2, 0.2, 0.1, 0.1], [0.8, 0.8, 0.1, 0.1]]])
    parts = agp.losses(Predictions(found, logits, torch.zeros(1)), found[0, 1:], owners(0), found[0, :, :2])
    parts["score"].backward()
    assert logits.grad[0, 0] > 0 > logits.grad[0, 1]


@pytest.mark.parametrize("seed", range(3))
def test_every_query_learns_the_true_box_nearest_to_its_place(seed):
    torch.manual_seed(seed)
    found, true = torch.rand(3, 4, 4) * 0.8 + 0.1, torch.rand(4, 4) * 0.8 + 0.1
    box_of = owners(0, 2, 0, 2)  # pair 1 shows nothing
    costs = []
    for n, q in itertools.product((0, 2), range(4)):
        own = [box for box, pair in zip(true, box_of, strict=True) if pair == n]
        costs.append(slow_box_loss(found[n, q], min(own, key=lambda box: (FOUR[q] - box[:2]).abs().sum())))
    parts = agp.losses(Predictions(found, torch.zeros(3, 4), torch.zeros(3)), true, box_of, FOUR)
    assert parts["near"].item() == pytest.approx(sum(costs) / 8, rel=1e-5)


def test_queries_with_equal_predictions_are_matched_by_their_reference_points():
    """Queries with the same boxes and scores are matched in the same way in every step."""
    alike = torch.full((1, 4, 4), 0.3)
    true = torch.tensor([[0.75, 0.3, 0.2, 0.2], [0.25, 0.7, 0.2, 0.2]])
    far = (FOUR - true[:, None, :2]).abs().sum(-1)
    _, query, matched = agp.match(alike, torch.zeros(1, 4), true, owners(0, 0), far)
    assert dict(zip(query.tolist(), matched.tolist(), strict=True)) == {
        1: true[0].tolist(),
        2: true[1].tolist(),
    }


def test_the_total_is_the_papers_weighted_sum():
    parts = {"l1": torch.tensor(0.1), "giou": torch.tensor(0.3), "present": torch.tensor(0.7)}
    weights = {"l1": 5.0, "giou": 2.0, "present": 1.0}
    assert total(parts, weights).item() == pytest.approx(5 * 0.1 + 2 * 0.3 + 0.7)


def test_a_loss_without_a_weight_is_a_bug():
    with pytest.raises(KeyError):
        total({"l1": torch.tensor(0.1)}, {"l1": 5.0, "giou": 2.0})


@pytest.mark.parametrize(("architecture", "names"), [("transvg", set()), ("mdetr", {"score", "near"})])
def test_a_learner_gives_each_loss_its_weight(architecture, names):
    torch.manual_seed(0)
    model = grounder.build("small", ["left lung"], architecture=architecture)
    learner = Learner(model, ["agp"], {"giou": 0.5})
    assert learner.weights(0.3).keys() == {"l1", "giou", "present"} | names
    assert learner.weights(0.3)["giou"] == 0.5
    ids, mask = model.tokenize(["left lung"])
    inputs = (torch.rand(1, 1, 160, 160), torch.ones(1, 1, 160, 160), ids, mask, owners(0), owners(0))
    batch = SimpleNamespace(inputs=lambda: inputs, boxes=torch.full((1, 4), 0.3), box_of=owners(0))
    assert learner(batch).keys() == learner.weights(0).keys()


def test_an_unknown_loss_to_weigh_is_named():
    torch.manual_seed(0)
    with pytest.raises(MedgroundError, match="'gio'"):
        Learner(grounder.build("small", ["left lung"]), ["agp"], {"gio": 1.0})
