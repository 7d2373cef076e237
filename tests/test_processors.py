"""What the processor computes fast, and warnings about options that it computes slowly."""

import logging

import pytest

import medground
from medground import processors
from medground.training import engine

AMX = "processor\t: 0\nflags\t\t: fpu avx512_bf16 amx_bf16 amx_tile\n"


@pytest.mark.parametrize(
    ("text", "expected"), [(AMX, True), (AMX.replace("amx_bf16 ", ""), False), ("", False)]
)
def test_flags_of_linux_tell_whether_a_processor_has_amx(tmp_path, text, expected):
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    assert processors.has_amx(path) is expected


def test_without_the_flags_it_is_unknown(tmp_path):
    assert processors.has_amx(tmp_path / "nothing") is None


def predict_in_bf16(folder, monkeypatch):
    pytest.importorskip("openvino")
    medground.load(backend="bf16")


def train_in_bf16(folder, monkeypatch):
    monkeypatch.setattr(engine, "Accelerator", lambda **options: None)  # a process has only one
    engine.open_engine("cpu", "bf16", None, folder)


@pytest.mark.parametrize("use", [predict_in_bf16, train_in_bf16])
@pytest.mark.parametrize(("amx", "warned"), [(True, False), (False, True), (None, False)])
def test_bf16_on_a_cpu_without_amx_is_warned_of(use, amx, warned, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(processors, "has_amx", lambda: amx)
    with caplog.at_level(logging.WARNING):
        use(tmp_path, monkeypatch)
    assert ("bfloat16 is slow on a CPU without AMX" in caplog.text) is warned
