"""How often a training step would wait for a GPU, counted on a CPU."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from medground.anatomy import regions
from medground.data.collate import Batch
from medground.errors import MedgroundError
from medground.models import grounder
from medground.objectives import agp, knowledge
from medground.objectives.learner import Learner, total
from medground.objectives.report_batch import ReportBatch, find
from medground.objectives.writer import ReportWriter
from medground.training import engine
from medground.training.optim import Schedule
from medground.training.run_dir import RunFolder
from medground.training.stepper import Stepper
from medground.training.unread import Unread
from tests.support.waits import Waits

DECODER_LAYERS = 2  # of the small mdetr
OF_TRANSFORMERS = ["_local_scalar_dense"]  # it asks whether all tokens of the texts are words


def batch_for(model, boxed):
    torch.manual_seed(0)
    texts = list(regions.NAMES[:3])
    ids, mask = model.tokenize(texts)
    side = model.config.image_size
    box_of = torch.tensor([0, 0, 1, 3])
    return Batch(
        pictures=torch.rand(2, 2, side, side).round(decimals=1),
        ids=ids,
        mask=mask,
        image_of=torch.tensor([0, 0, 1, 1]),
        text_of=torch.tensor([0, 1, 2, 0]),
        boxes=torch.rand(4, 4) * 0.3 + 0.3,
        box_of=box_of,
        boxed=box_of.unique() if boxed else None,
    )


def with_reports(batch, indexed):
    """Return the batch with the reports of two images, of which the second has none."""
    number, count = torch.tensor, len(knowledge.NAMES)
    reports = ReportBatch(
        sentences=number([0, 1, 1]),
        report_of=number([0, 0, 0]),
        pair_texts=number([0, 1, 1]),
        pair_images=number([0, 0, 1]),
        pair_boxes=torch.rand(3, 4) * 0.3 + 0.3,
        regions=number([0, 1, 1]),
        region_images=number([0, 0, 1]),
        region_boxes=torch.rand(3, 4) * 0.3 + 0.3,
        tags=torch.randint(-1, 2, (2, 40)).float(),
        findings=torch.randint(-1, 2, (2, count)).float(),
        has_report=number([True, False]),
        always=torch.arange(count) % 3,
        keys=number([1, 2]),
    )
    return replace(batch, reports=replace(reports, indices=find(reports, batch.mask) if indexed else None))


def step(architecture, names, boxed=True, norm="pre"):
    """Return the waits of a step, its losses and the learner; without `boxed` the batch has no indices."""
    torch.manual_seed(0)
    more = {"architecture": architecture, "norm": norm, "image_size": 64}
    model = grounder.build("small", list(regions.NAMES), **more)
    learner, batch = Learner(model, names).train(), with_reports(batch_for(model, boxed), boxed)
    with Waits() as waits:
        parts = learner(batch)
        total(parts, learner.weights(0.5)).backward()
    return waits.found, {name: part.item() for name, part in parts.items()}, learner


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "names"),
    [
        ("transvg", ["agp"]),
        ("text-query", ["agp"]),
        ("transvg", ["agp", "taco"]),
        ("transvg", ["asg"]),
        ("transvg", ["asg-cls"]),
    ],
)
def test_only_the_text_encoder_waits_for_its_device(architecture, names):
    found, _, _ = step(architecture, names)
    assert found == OF_TRANSFORMERS


@pytest.mark.slow
def test_a_step_of_the_writer_encodes_no_text_and_so_never_waits(monkeypatch):
    found, parts, learner = step("transvg", ["writer"])
    monkeypatch.setattr(ReportWriter, "uses_tokens", True)
    more, same, other = step("transvg", ["writer"])
    assert (found, more) == ([], OF_TRANSFORMERS)
    assert parts == same
    for own, its in zip(learner.parameters(), other.parameters(), strict=True):
        assert (own.grad is None) == (its.grad is None)
        assert own.grad is None or torch.equal(own.grad, its.grad)


@pytest.mark.slow
def test_matching_of_images_and_reports_waits_for_the_rows_that_differ():
    found, _, _ = step("transvg", ["gk-mvlp"])
    assert found == [*OF_TRANSFORMERS, "index", "index"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["agp", "asg", "writer", "gk-mvlp"])
def test_the_indices_that_a_batch_brings_change_no_bit(name):
    found, parts, learner = step("transvg", [name])
    more, same, other = step("transvg", [name], boxed=False)
    assert len(more) > len(found) and parts == same
    for own, its in zip(learner.parameters(), other.parameters(), strict=True):
        assert own.grad is None or torch.equal(own.grad, its.grad)


@pytest.mark.slow
def test_a_match_of_several_boxes_waits_a_fixed_number_of_times():
    found, _, _ = step("mdetr", ["agp"])
    of_pairs, of_layers = 3, 1  # one for each pair with a box, and the pairs
    assert len(found) == len(OF_TRANSFORMERS) + of_pairs + of_layers
    found, _, _ = step("mdetr", ["mdetr"], norm="post")
    assert len(found) == len(OF_TRANSFORMERS) + DECODER_LAYERS * (of_pairs + of_layers)


def test_pairs_with_a_box_are_found_without_the_field():
    class Bare:
        box_of = torch.tensor([4, 1, 4])

    assert agp.pairs_of(Bare()).tolist() == [1, 4]


class OneLoss(nn.Module):
    """A learner whose loss is the square of its only weight."""

    def __init__(self):
        super().__init__()
        self.network = self.layer = nn.Linear(1, 1, bias=False)

    def forward(self, batch):
        return {"own": (self.layer(batch.rows) ** 2).sum()}

    def weights(self, progress):
        return {"own": 1.0}


def test_the_numbers_of_a_step_are_read_only_for_the_log(tmp_path, monkeypatch):
    learner, read = OneLoss(), []
    optimizer, schedule = torch.optim.SGD(learner.parameters(), 0.1), Schedule(steps=9, lr=0.1)
    stepper = Stepper(engine.open_engine("cpu", "no", None, tmp_path), learner, optimizer, schedule)
    stepper.begin(RunFolder(tmp_path, {}))
    for name in ("tolist", "item", "__float__", "__bool__", "__int__"):
        real = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda own, real=real: read.append(1) or real(own))
    unread, batch = Unread(scaled=False), loop_batch()
    with Waits() as waits:
        for number in range(5):
            figures, requested = stepper.step(number, batch, False)
            unread.append(number, figures)
    assert waits.found == read == [] and not requested
    assert unread.read().keys() == {"loss", "own", "grad_norm"}
    assert len(read) == 1 and unread.read() == {}


def loop_batch():
    @dataclass
    class Rows:
        rows: torch.Tensor

    return Rows(torch.ones(1, 1))


def figures_of(loss, norm):
    return {"loss": torch.tensor(loss), "grad_norm": torch.tensor(norm)}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ((float("nan"), 1.0), "step 3: the loss became nan"),
        ((1.0, float("inf")), "step 3: the gradient became inf"),
    ],
)
def test_the_first_number_that_is_not_finite_is_named(bad, message):
    unread = Unread(scaled=False)
    for step, each in enumerate([(1.0, 1.0), (2.0, 2.0), bad, (float("nan"), float("nan"))]):
        unread.append(step, figures_of(*each))
    with pytest.raises(MedgroundError, match=message), unread.explained():
        raise ValueError("matrix contains invalid numeric entries")
