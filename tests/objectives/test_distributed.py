"""Several processes together compute what one would; a stop ends all of them, and so does a lost one."""

import json
from pathlib import Path

import pytest
import torch
import toy
from click.testing import CliRunner
from safetensors.torch import load_file
from two_processes import END, pair, torchrun

from medground.checkpoints import read_config
from medground.cli.main import cli
from medground.models import encoders
from medground.objectives import distributed

SHARED = """
import sys, torch
from torch import nn
from medground.objectives import distributed
torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
torch.manual_seed(0)
layer, rows = nn.Conv2d(3, 6, 1), torch.randn(5, 3, 4, 4)
norms = nn.ModuleList([nn.BatchNorm2d(6), nn.BatchNorm1d(6, affine=False)])

def features(rows, norms):
    return norms[1](norms[0](layer(rows)).tanh().mean((2, 3)))

def contrast(rows):
    return nn.functional.cross_entropy(rows @ rows.T, torch.arange(len(rows)))

whole = features(rows, norms)
expected = contrast(whole) + (whole ** 2).sum(1).mean()
expected.backward()
wanted, layer.weight.grad = layer.weight.grad, None
seen = [norms[0].running_var.clone(), norms[1].running_mean.clone()]
for norm in norms:
    norm.reset_running_stats()
shared = distributed.share_norms(norms, torch.device("cpu"))
own = features([rows[:2], rows[2:]][rank], shared)
found = contrast(distributed.gathered(own)) + distributed.mean((own ** 2).sum(1))
found.backward()
gap = (distributed.averaged(layer.weight.grad) - wanted).abs().max().item()

class Sometimes(nn.Module):  # process 1 has nothing for what fills DDP's first bucket
    def __init__(self):
        super().__init__()
        self.always, self.after, self.sometimes = nn.Linear(600, 4), nn.Linear(600, 1), nn.Linear(600, 600)

    def forward(self, rows, some):
        if some:
            rows = torch.cat([self.sometimes(rows[:some]), rows[some:]])
        own = distributed.mean(self.after(rows.detach())[:, 0])
        return contrast(distributed.gathered(self.always(rows))) + own

layer, rows = Sometimes(), torch.randn(5, 600)
contrast(layer.always(torch.cat([layer.sometimes(rows[:2]), rows[2:]]))).backward()
wanted = layer.sometimes.weight.grad
layer.zero_grad()
parallel = nn.parallel.DistributedDataParallel(layer, find_unused_parameters=True)
parallel([rows[:2], rows[2:]][rank], [2, 0][rank]).backward()
empty = distributed.gathered(torch.zeros(rank, 7))
figures = {
    "loss": abs(distributed.averaged(found).item() - expected.item()),
    "gradient": gap,
    "gradient of one": (layer.sometimes.weight.grad - wanted).abs().max().item(),
    "variance": (norms[0].running_var - seen[0]).abs().max().item(),
    "mean": (norms[1].running_mean - seen[1]).abs().max().item(),
    "rows": empty.shape == (1, 7),
    "counts": distributed.row_counts(own) == [2, 3],
    "no rows at all": distributed.mean(torch.zeros(0)).item() == 0,
    "broadcast": distributed.broadcast(rank + 7) == 7,
}
if rank == 0:
    import json
    print(json.dumps(figures))
"""

# a medground whose process 1 gets a signal at the beginning of one step
SIGNALLED = """
import os, sys
number, at = int(sys.argv.pop(1)), int(sys.argv.pop(1))
from medground.__main__ import main
from medground.training.stepper import Stepper
real = Stepper.step
def stepped(stepper, step, *rest):
    if step == at and stepper.engine.process_index == 1:
        os.kill(os.getpid(), number)
    return real(stepper, step, *rest)
Stepper.step = stepped
main()
"""


@pytest.mark.slow
def test_rows_counts_and_norms_of_two_processes_are_those_of_one(tmp_path):
    script = tmp_path / "shared.py"
    script.write_text(SHARED + END)
    done = pair(script)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    for name in ("loss", "gradient", "gradient of one", "variance", "mean"):
        assert figures.pop(name) < 1e-5, name
    assert all(figures.values()), figures


def test_a_single_process_shares_with_nobody():
    rows = torch.rand(3, 2)
    assert distributed.gathered(rows) is rows
    assert distributed.mean(rows[:, 0]).item() == pytest.approx(rows[:, 0].mean().item())
    assert distributed.mean(rows[:0, 0]).item() == 0
    norm = torch.nn.BatchNorm2d(2)
    assert type(distributed.share_norms(norm, torch.device("cpu"))) is torch.nn.BatchNorm2d


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> Path:
    """A text encoder without dropout, whose noise would be another one in each process."""
    folder = tmp_path_factory.mktemp("words")
    tokenizer = encoders.build_tokenizer(["opacity in the left lung", "right lung"])
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = {"model_type": "bert", "vocab_size": len(tokenizer), **sizes, **still}
    torch.manual_seed(0)
    encoders.build_text_encoder(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def curve(folder: Path) -> dict[int, dict]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line for line in lines}


@pytest.mark.slow
def test_two_processes_train_as_one_through_a_stop_and_a_lost_process(words, tmp_path):
    cohort = toy.make(tmp_path)
    flags = [  # Adam takes full steps for rounding errors too: visible at a high learning rate
        "pretrain", cohort.pairs, "--anatomy", cohort.anatomy, "--images", cohort.folder, "--device", "cpu",
        "--text-encoder", words, "--steps", 6, "--batch-size", 3, "--save-every", 2, "--log-every", 1,
        "--ema-decay", 0.9, "--lr", 5e-5, "-o",
    ]  # fmt: skip
    alone, folder = tmp_path / "alone", tmp_path / "together"
    done = CliRunner().invoke(cli, [str(each) for each in [*flags, alone]])
    assert done.exit_code == 0, done.output
    script = tmp_path / "signalled.py"
    script.write_text(SIGNALLED)

    lost = torchrun(script, 9, 3, *flags, folder)  # SIGKILL, to one of them
    assert lost.returncode != 0
    assert read_config(folder / "resume.safetensors")["step"] == 2

    stopped = torchrun(script, 10, 4, *flags, folder)  # SIGUSR1
    assert stopped.returncode != 0
    assert stopped.stderr.count("stopped on request: saved step 5 of 6") == 2, stopped.stderr
    assert "exitcode  : 75" in stopped.stderr
    assert read_config(folder / "resume.safetensors")["step"] == 5

    finished = CliRunner().invoke(
        cli, [str(each) for each in [*flags, folder]]
    )  # a single process may continue
    assert finished.exit_code == 0, finished.stderr
    expected, found = curve(alone), curve(folder)
    assert expected.keys() == found.keys() == set(range(1, 7))
    for step, line in expected.items():
        norms = [each[step].pop("grad_norm") for each in (found, expected)]  # of thousands of weights
        assert norms[0] == pytest.approx(norms[1], rel=1e-4), step
        assert found[step] == pytest.approx(line, abs=1e-4), step
    names = [load_file(each / "model.safetensors").keys() for each in (alone, folder)]
    assert names[0] == names[1]


@pytest.mark.slow
def test_two_processes_read_what_reports_there_are(words, tmp_path):
    """Of nine images three have a report, so now one process has none in its part of a step and now both."""
    cohort = toy.make(tmp_path)
    pair_lines = Path(cohort.pairs).read_text().splitlines(keepends=True)
    Path(cohort.pairs).write_text("".join(pair_lines[:3]))
    flags = [
        "pretrain", cohort.pairs, "--anatomy", cohort.anatomy, "--images", cohort.folder, "--device", "cpu",
        "--objective", "agp", "--objective", "asg", "--objective", "gk-mvlp", "--text-encoder", words,
        "--batch-size", 3, "--log-every", 1, "-o",
    ]  # fmt: skip
    alone, folder = tmp_path / "alone", tmp_path / "together"
    done = CliRunner().invoke(cli, [str(each) for each in [*flags, alone, "--steps", 1]])
    assert done.exit_code == 0, done.output
    done = pair("-m", "medground", *flags, folder, "--steps", 3)
    assert done.returncode == 0, done.stderr
    found, first = curve(folder), curve(alone)[1]
    assert [found[step]["lm"] > 0 for step in (1, 2, 3)] == [True, False, True]
    for name in ("present", "l1", "giou", "itc", "lm", "ecls"):  # asg has dropout, itm wrong pairs of its own
        assert found[1][name] == pytest.approx(first[name], abs=1e-4), name
