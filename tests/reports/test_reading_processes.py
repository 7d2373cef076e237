"""Two processes that read reports have the losses and gradients of one with the whole batch."""

import json

import pytest
from two_processes import END, pair

SCRIPT = """
import json, torch
from dataclasses import fields, replace
from types import SimpleNamespace
from medground.models import grounder
from medground.models.network import EncodedImages
from medground.objectives import distributed, knowledge
from medground.objectives.learner import Learner
from medground.objectives.objective import Encoded
from medground.objectives.report_batch import ReportBatch

torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
torch.manual_seed(0)
texts = [f"word{n} effusion" for n in range(6)]
model = grounder.build("small", texts, image_size=48)  # 9 patches
learner = Learner(model, ["asg", "gk-mvlp"]).eval()
for part in learner.modules():
    if type(part).__name__ in ("RowNorm", "RegionNorm"):
        part.train()  # statistics of all processes; no dropout
count = len(knowledge.NAMES)
ids, mask = model.tokenize([*texts, *knowledge.TEXTS])
tokens = torch.randn(len(ids), ids.shape[1], 128)
patches, grid = torch.randn(5, 9, 128), torch.zeros(5, 128, 3, 3)
row = lambda *numbers: torch.tensor(numbers)
# without regions, images have the same knowledge, and norms amplify rounding
reports = ReportBatch(
    sentences=row(0, 1, 2, 3, 4), report_of=row(0, 0, 1, 2, 4), pair_texts=row(0, 1, 2, 3, 5, 4),
    pair_images=row(0, 0, 1, 2, 2, 4), pair_boxes=torch.rand(6, 4), regions=row(0, 8, 3, 5, 8, 1),
    region_images=row(0, 0, 1, 2, 3, 4), region_boxes=torch.rand(6, 4),
    tags=torch.randint(-1, 2, (5, 40)).float(),
    findings=torch.randint(-1, 2, (5, count)).float(),
    has_report=torch.tensor([True, True, True, False,
    True]), always=torch.arange(6, 6 + count),
)
OF_ROWS = {"sentences": "report_of", "pair_texts": "pair_images", "pair_boxes": "pair_images",
           "regions": "region_images", "region_boxes": "region_images"}

def part_of(images):
    start, kept = images[0], {}
    for each in fields(reports):
        values = getattr(reports, each.name)
        if each.name in ("tags", "findings", "has_report"):
            kept[each.name] = values[images]
        elif each.name in OF_ROWS:
            kept[each.name] = values[torch.isin(getattr(reports, OF_ROWS[each.name]), images)]
        elif each.name in OF_ROWS.values():
            kept[each.name] = values[torch.isin(values, images)] - start
    return replace(reports, **kept)

def losses(images):
    learner.zero_grad()
    seen = EncodedImages(patches[images], torch.ones(len(images), 9, dtype=torch.bool), grid[images])
    batch = SimpleNamespace(reports=part_of(images), ids=ids)
    parts = learner.losses(Encoded(seen, tokens, mask, None), batch)
    del parts["itm"]  # its negatives are drawn within a process
    torch.stack(list(parts.values())).sum().backward()
    grads = {n: p.grad.clone() for n, p in learner.named_parameters() if p.grad is not None}
    return parts, grads

really, distributed.count = distributed.count, lambda: 1
wanted, gradient = losses(torch.arange(5))
distributed.count = really
found, own = losses([torch.arange(2), torch.arange(2, 5)][rank])
largest = max(each.abs().max() for each in gradient.values())
gaps = {name: abs(distributed.averaged(part).item() - wanted[name].item()) for name, part in found.items()}
for name in sorted(gradient):
    mine = own.get(name, torch.zeros_like(gradient[name]))
    gap = (distributed.averaged(mine) - gradient[name]).abs().max()
    gap = gap / gradient[name].abs().max().clamp(min=0.01 * largest)  # what cancels leaves rounding
    gaps["gradient"] = max(gaps.get("gradient", 0), gap.item())
if rank == 0:
    print(json.dumps(gaps))
"""


@pytest.mark.slow
def test_losses_and_gradients_of_two_processes_are_those_of_one(tmp_path):
    script = tmp_path / "reading.py"
    script.write_text(SCRIPT + END)
    done = pair(script)
    assert done.returncode == 0, done.stderr
    gaps = json.loads(done.stdout)
    assert gaps.keys() == {"ira", "arsa", "irl", "erl", "itc", "lm", "ecls", "gradient"}
    assert max(gaps.values()) < 1e-4, gaps
