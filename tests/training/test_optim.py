"""Learning rates, weight decay, the end of a run, and the moving average of the weights."""

import pytest
import torch
from torch import nn

from medground.models import grounder
from medground.objectives.learner import Learner
from medground.training.detectors.common import channels_last
from medground.training.ema import Average
from medground.training.optim import Schedule, build_optimizer, freeze, set_lr


def plan(**given) -> Schedule:
    return Schedule(**{"steps": 90, "lr": 1.0, "encoder_lr": 0.1, "warmup_ratio": 0.1} | given)


def test_the_learning_rate_rises_then_falls():
    shares = [plan(steps=100).lr_factor(step) for step in range(100)]
    assert shares[:10] == sorted(shares[:10]) and shares[9] == 1.0
    assert shares[10:] == sorted(shares[10:], reverse=True) and shares[-1] < 0.01


def test_the_step_schedule_is_a_tenth_after_two_thirds():
    shares = [plan(lr_schedule="step").lr_factor(step) for step in range(90)]
    assert shares[8:60] == [1.0] * 52
    assert shares[60:] == [0.1] * 30


@pytest.mark.parametrize(
    ("step", "best_step", "best", "over"),
    [
        (10, 10, 0.5, False),
        (29, 10, 0.5, False),
        (30, 10, 0.5, True),  # two validations, at 20 and 30, were no better
        (31, 10, 0.5, False),  # stopped between two checkpoints: an undisturbed run would not end here
        (30, 20, 0.5, False),
        (30, 0, None, False),  # nothing is validated
        (90, 80, 0.5, True),
    ],
)
def test_patience_counts_validations_without_a_better_one(step, best_step, best, over):
    assert plan(save_every=10, patience=2).is_over(step, best_step, best) is over


@pytest.fixture(scope="module")
def learner() -> Learner:
    torch.manual_seed(0)
    return Learner(grounder.build("small", ["left lung"]), ["agp"])


def test_every_parameter_is_optimized_once_and_encoders_have_their_learning_rate(learner):
    optimizer = build_optimizer(learner, plan(weight_decay=0.3))
    held = [id(each) for group in optimizer.param_groups for each in group["params"]]
    assert sorted(held) == sorted(map(id, learner.parameters()))
    set_lr(optimizer, 0.5)
    network = learner.network
    slow = (network.image_encoder, network.to_patches, network.visual, network.text_encoder)
    encoders = {id(each) for part in slow for each in part.parameters()}
    for group in optimizer.param_groups:
        for each in group["params"]:
            assert group["lr"] == pytest.approx(0.05 if id(each) in encoders else 0.5)


def test_the_text_encoder_has_its_own_learning_rate_and_schedule(learner):
    schedule = plan(text_lr=0.3, text_schedule="linear", text_warmup_ratio=0.5, lr_schedule="step")
    optimizer = build_optimizer(learner, schedule)
    texts = {id(each) for each in learner.network.text_encoder.parameters()}
    set_lr(optimizer, 1.0, schedule.lr_factor(0, of_text=True))
    for group in optimizer.param_groups:
        for each in group["params"]:
            assert (group["lr"] == pytest.approx(0.3 * schedule.lr_factor(0, True))) == (id(each) in texts)
    falls = [schedule.lr_factor(step, of_text=True) for step in range(schedule.steps)]
    top = falls.index(1.0)
    assert falls[: top + 1] == sorted(falls[: top + 1])
    assert falls[top:] == sorted(falls[top:], reverse=True)
    assert falls[-1] < 0.05


def test_the_drop_of_a_step_schedule_can_be_chosen():
    schedule = plan(steps=40, lr_schedule="step", lr_drop=35 / 40, warmup_ratio=0.0)
    assert [schedule.lr_factor(step) for step in (0, 34, 35, 39)] == [1, 1, 0.1, 0.1]


def test_everything_can_decay_as_in_the_published_code(learner):
    groups = build_optimizer(learner, plan(weight_decay=0.3, decay_all=True)).param_groups
    assert {group["weight_decay"] for group in groups} == {0.3}


def test_batch_norms_and_the_stem_can_be_frozen():
    torch.manual_seed(0)
    network = grounder.build("small", ["left lung"]).network
    frozen = freeze(network, ["batch-norm", "stem"])
    fixed = {name for name, each in network.named_parameters() if not each.requires_grad}
    encoder = {name for name, _ in network.named_parameters() if name.startswith("image_encoder.")}
    norms = {name for name in encoder if ".normalization." in name}
    first = {name for name in encoder if "embedder" in name or ".stages.0." in name}
    assert fixed == norms | first < encoder
    assert all(each in frozen for each in network.image_encoder.modules() if isinstance(each, nn.BatchNorm2d))


def test_all_stages_but_the_last_can_be_frozen():
    encoder = grounder.build("small", ["left lung"]).network
    freeze(encoder, ["early-stages"])
    learns = {name for name, each in encoder.image_encoder.named_parameters() if each.requires_grad}
    assert learns == {
        name for name, _ in encoder.image_encoder.named_parameters() if name.startswith("encoder.stages.2.")
    }


def test_norms_biases_and_embeddings_do_not_decay(learner):
    optimizer = build_optimizer(learner, plan(weight_decay=0.3))
    names = {id(each): name for name, each in learner.named_parameters()}
    decays = {
        names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]
    }
    assert decays["network.to_tokens.weight"] == 0.3
    for name, decay in decays.items():
        if "norm" in name.lower() or name.endswith("bias") or "embeddings.word" in name:
            assert decay == 0, name


def test_frozen_parameters_are_left_out():
    torch.manual_seed(0)
    learner = Learner(grounder.build("small", ["left lung"]), ["agp"])
    learner.network.image_encoder.requires_grad_(False)
    held = {id(p) for group in build_optimizer(learner, plan()).param_groups for p in group["params"]}
    assert not held & {*map(id, learner.network.image_encoder.parameters())}


def test_one_kernel_for_channels_last_updates_weights_as_the_plain_optimizer():
    torch.manual_seed(0)
    fast, plain = (nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(20, 2)) for _ in range(2))
    plain.load_state_dict(fast.state_dict())
    channels_last(fast)
    assert fast[0].weight.is_contiguous(memory_format=torch.channels_last)
    schedule = plan(weight_decay=0.1)
    quick = torch.optim.AdamW(fast.parameters(), schedule.lr, weight_decay=schedule.weight_decay, fused=True)
    slow = torch.optim.AdamW(plain.parameters(), schedule.lr, weight_decay=schedule.weight_decay)
    for _ in range(3):
        images = torch.rand(4, 3, 4, 4)
        for network, optimizer in ((fast, quick), (plain, slow)):
            optimizer.zero_grad()
            network(images).square().sum().backward()
            optimizer.step()
    for one, other in zip(fast.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_moving_average_against_a_slow_reference():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = Average(network, decay=0.5)
    expected = network[0].weight.detach().clone()
    for step in range(1, 20):
        with torch.no_grad():
            network[0].weight.normal_()
            network[1].running_mean.normal_()
        average.update(network, step)
        keep = min(0.5, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * network[0].weight.detach()
    assert torch.allclose(average.network[0].weight, expected, atol=1e-6)
    assert torch.equal(average.network[1].running_mean, network[1].running_mean)
    assert not average.network.training
