"""Arrays in files from strangers: their headers are checked before memory is taken."""

import io
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

from medground import arrays, limits
from medground.anatomy import mask_files
from medground.errors import MedgroundError
from medground.evaluation.inputs import heatmap_files

HUGE = (1_000_000, 1_000_000)


def declaring(shape, dtype="|u1"):
    """Return an array file whose header claims a shape that its few bytes do not have."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"shape": shape, "fortran_order": False, "descr": dtype})
    return stream.getvalue() + b"\0" * 16


def packed(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize("shape", [HUGE, (2, *HUGE), (1 << 40,)])
def test_a_header_that_claims_too_much_takes_no_memory(tmp_path, shape):
    path = packed(tmp_path / "maps.npz", p1=declaring(shape))
    with heatmap_files.opened(path) as maps, pytest.raises(MedgroundError, match=r"MiB|million pixels"):
        maps["p1"]
    with pytest.raises(MedgroundError, match=r"MiB|million pixels"):
        list(mask_files.read_labels(path, ["1"]))


def test_every_reader_of_arrays_has_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_PIXELS", 99)
    values = np.zeros((10, 10), np.uint8)
    np.savez(tmp_path / "a.npz", p1=values)
    np.save(tmp_path / "a.npy", values)
    save_file({"p1": values}, tmp_path / "a.safetensors")
    for name in ("a.npz", "a.safetensors"):
        with heatmap_files.opened(tmp_path / name) as maps, pytest.raises(MedgroundError, match="pixels"):
            maps["p1"]
    for name in ("a.npz", "a.npy"):
        with pytest.raises(MedgroundError, match="pixels"):
            list(mask_files.read_labels(tmp_path / name, ["1"]))
        with pytest.raises(MedgroundError, match="pixels"):
            list(mask_files.read(tmp_path / name, (), frozenset({"p1"})))


def test_an_array_of_objects_is_never_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", p1=np.array([print], dtype=object))
    with zipfile.ZipFile(tmp_path / "a.npz") as archive, pytest.raises(ValueError, match="Object arrays"):
        arrays.member(archive, "p1", "a.npz")
