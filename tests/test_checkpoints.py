"""Checkpoints: what goes in comes out, and nothing that is not ours is read."""

import errno
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from medground import checkpoints
from medground.errors import MedgroundError

CONFIG = {"kind": "grounder", "width": 8, "names": ["a", "b"], "rate": 0.1}


@pytest.fixture
def weights():
    generator = torch.Generator().manual_seed(0)
    return {"a.weight": torch.randn(3, 4, generator=generator), "b": torch.arange(5)}


def test_weights_and_config_come_back(tmp_path, weights):
    checkpoints.save(tmp_path / "m.safetensors", weights, CONFIG)
    again, config = checkpoints.load(tmp_path / "m.safetensors")
    assert config == CONFIG == checkpoints.read_config(tmp_path / "m.safetensors")
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[name], weights[name]) for name in weights)


def test_same_weights_same_bytes_same_hash(tmp_path, weights):
    paths = [tmp_path / f"{n}.safetensors" for n in range(4)]
    for path in paths:
        checkpoints.save(path, weights, dict(reversed(CONFIG.items())))
    assert len({path.read_bytes() for path in paths}) == 1
    assert len({checkpoints.hash_of(path) for path in paths}) == 1
    assert len(checkpoints.hash_of(paths[0])) == 12


def test_tied_and_strided_weights_are_saved(tmp_path):
    table = torch.arange(12.0).reshape(3, 4)
    checkpoints.save(tmp_path / "m", {"in": table, "out": table, "turned": table.T}, {})
    again, _ = checkpoints.load(tmp_path / "m")
    assert torch.equal(again["out"], table) and torch.equal(again["turned"], table.T)


def test_a_failed_save_leaves_the_old_file(tmp_path, weights):
    path = tmp_path / "m.safetensors"
    checkpoints.save(path, weights, CONFIG)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        checkpoints.save(path, weights, {"not JSON": object()})
    assert path.read_bytes() == before


def test_a_full_disk_keeps_only_a_file_that_was_there(tmp_path, weights, monkeypatch):
    def fsync(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "old").write_bytes(b"kept")
    monkeypatch.setattr(os, "fsync", fsync)
    for name, kept in (("old", "the previous file was kept"), ("new", "this file was not saved")):
        with pytest.raises(MedgroundError, match=f"{name}: No space left on device; {kept}$"):
            checkpoints.save(tmp_path / name, weights, CONFIG)
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"kept"]


@pytest.mark.parametrize("old", [True, False])
def test_a_pickle_is_refused_unread(tmp_path, old):
    path = tmp_path / "model.pt"
    if old:
        path.write_bytes(pickle.dumps({"a": 1}))
    else:
        torch.save({"a": torch.ones(2)}, path)
    with pytest.raises(MedgroundError, match=r"model\.pt: a pickle"):
        checkpoints.load(path)


def test_other_files_are_one_message(tmp_path, weights):
    path = tmp_path / "m.safetensors"
    save_file(weights, path)
    with pytest.raises(MedgroundError, match="not a medground checkpoint"):
        checkpoints.load(path)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(MedgroundError, match="damaged, truncated"):
        checkpoints.load(path)
    path.write_bytes(b"")
    with pytest.raises(MedgroundError, match="damaged, truncated"):
        checkpoints.read_config(path)


def test_weights_of_another_architecture_are_named(tmp_path):
    small, large = torch.nn.Linear(2, 3), torch.nn.Linear(2, 4)
    with pytest.raises(MedgroundError, match=r"another architecture \(bias does not fit\)"):
        checkpoints.fit(small, large.state_dict(), tmp_path / "m")
    checkpoints.fit(small, torch.nn.Linear(2, 3).state_dict(), tmp_path / "m")
