"""The comparison with MedRPG's code, on a checkout with the same files and a network of one layer."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import tool_runs
import torch

from medground.compat_transformers import hide_broken_torchvision

NETWORK = """
from torch import nn
from torch.nn.modules.linear import _LinearWithBias
from utils.misc import NestedTensor
from .language_model.bert import AutoModel
from .visual_model.detr import build_detr

class TransVG_ca(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.size, self.visumodel, self.boxes = args.imsize, build_detr(), _LinearWithBias(4, 4)

    def forward(self, images, texts):
        assert images.tensors.shape[1:] == (3, self.size, self.size) and not images.mask.any()
        assert texts.tensors.shape[1] == 20 and (texts.tensors[texts.mask == 0] == 0).all()
        return self.boxes(self.visumodel(images.tensors.mean((2, 3)))).sigmoid()

def build_model(args):
    return TransVG_ca(args)
"""
MISC = """
import torchvision
assert float(torchvision.__version__[:3]) >= 0.7

class NestedTensor:
    def __init__(self, tensors, mask):
        self.tensors, self.mask = tensors, mask
"""
ENGINE = """
import opt_einsum
import utils.misc

def train_one_epoch(args, model, loader, optimizer, device, epoch):
    for images, texts, boxes, others in loader:
        loss = (model(images, texts) - boxes).abs().sum()
        if args.model_name == "TransVG_ca":
            loss = loss + sum(len(each["NegBBoxs"]) for each in others)
        print("loss", loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
DETR = "from torch import nn\ndef build_detr():\n    return nn.Linear(3, 4)\n"
FILES = {
    "models/__init__.py": "from .trans_vg_ca import build_model\n",
    "models/trans_vg_ca.py": NETWORK,
    "models/language_model/bert.py": "AutoModel = None\n",
    "utils/misc.py": MISC,
    "engine.py": ENGINE,
}


@pytest.fixture
def bench(monkeypatch):
    """The tool, with packages that MedRPG needs; afterwards its modules are forgotten."""
    hide_broken_torchvision()
    from transformers.utils import is_torchvision_available

    is_torchvision_available()  # the answer is kept; later the empty package would be one
    for name, version in (("torchvision", "0.28.0"), ("opt_einsum", "3")):
        module = ModuleType(name)
        module.__version__, module.__spec__ = version, ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    yield tool_runs.tool("bench_peer")
    for name in [each for each in sys.modules if each.partition(".")[0] in ("models", "utils", "engine")]:
        del sys.modules[name]


@pytest.fixture
def checkouts(tmp_path):
    """Folders of MedRPG, and of TransVG with the part that MedRPG lacks."""
    files = {"medrpg": FILES, "transvg": {"models/visual_model/detr.py": DETR}}
    for folder, own in files.items():
        for name, text in own.items():
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return tmp_path / "medrpg", tmp_path / "transvg"


@pytest.fixture
def small(monkeypatch):
    """Encoders of one layer in place of the published ones."""
    tool_runs.tool("bench_peer")  # puts tools/ on the path
    common = sys.modules["step_common"]
    picture = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "out_features": ["stage2"]}
    monkeypatch.setattr(common, "RESNET_50", common.RESNET_50 | picture)
    words = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    monkeypatch.setattr(common, "BERT_BASE", {"model_type": "bert", "vocab_size": 200} | words)


@pytest.mark.slow
def test_a_step_of_the_checkout_trains_its_network(bench, checkouts):
    build_model, train_one_epoch = bench.load(*checkouts)
    built = []

    def build(settings):
        built.append(build_model(settings))
        return built[0]

    step = bench.peer_step(build, train_one_epoch, 2, 32, contrast=True)
    before = built[0].boxes.weight.detach().clone()
    gradients, update = step()
    assert gradients > 0 and update > 0
    assert not torch.equal(built[0].boxes.weight, before)
    assert sys.modules["torchvision"].__version__ == "0.28.0"


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_the_table_has_a_row_for_each_number_of_phrases(bench, checkouts, monkeypatch, capsys):
    flags = ["--image-size", 64, "--phrases", 3, 1, "--rounds", 2, "--rows", "same", "recipes"]
    text = tool_runs.run(monkeypatch, capsys, bench, checkouts[0], "--transvg", checkouts[1], *flags)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[3:-1]]
    assert [row[:2] for row in rows] == [["same", "3"], ["same", "1"], ["recipes", "3"], ["recipes", "1"]]
    for *_, ratio, spread in rows:
        least, most = map(float, spread.split(" to "))
        assert 0 <= least <= float(ratio.rstrip("x")) <= most


def test_times_are_per_pair_of_a_whole_batch(bench):
    spent = iter([(0.0, 0.0), (4.0, 0.8), (8.0, 0.8)])
    own = {6: lambda: (6.0, 0.48), 1: lambda: (1.0, 0.48)}
    found = dict((n, (a, b)) for n, a, b in bench.rounds(lambda: next(spent), 2, own, 1, 2))
    assert found[6] == (pytest.approx([2.1, 4.1]), pytest.approx([1.01, 1.01]))
    assert found[1] == (pytest.approx([2.1, 4.1]), pytest.approx([1.06, 1.06]))


def test_what_is_missing_is_one_line(bench, checkouts, tmp_path, monkeypatch):
    medrpg, transvg = checkouts
    with pytest.raises(SystemExit, match=r"no models/trans_vg_ca.py; is this a checkout of github"):
        bench.load(tmp_path, transvg)
    with pytest.raises(SystemExit, match=r"no visual_model/detr.py; give .*TransVG as --transvg"):
        bench.load(medrpg, None)
    monkeypatch.setitem(sys.modules, "opt_einsum", None)
    with pytest.raises(SystemExit, match=r"MedRPG's code needs opt_einsum: "):
        bench.load(medrpg, transvg)
