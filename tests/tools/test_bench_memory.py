import argparse

import pytest
import tool_runs
import torch

MIB = 2**20


@pytest.fixture(scope="module")
def bench():
    return tool_runs.tool("bench_memory")


def floats(mib):
    return torch.zeros(mib * MIB // 4)


@pytest.mark.slow  # the first dispatch mode loads parts of torch
def test_the_peak_counts_each_living_tensor_once(bench):
    kept = floats(2)
    with bench.Living([kept, kept[: MIB // 8]]) as living:
        freed = kept + 1
        view = freed.view(2, -1)
        assert living.now == 4 * MIB
        del freed, view
        assert living.now == 2 * MIB
        kept.add_(1)
    assert (living.read(), living.read()) == (4 * MIB, 2 * MIB)


def test_the_peak_counts_what_the_backward_pass_keeps(bench):
    weight = floats(1).requires_grad_()
    with bench.Living([weight]) as living:
        (weight.exp().exp().sum()).backward()
    assert living.now == 2 * MIB  # the weight and its gradient
    assert 4 * MIB <= living.peak <= 6 * MIB  # also both exponentials


def test_the_formula_follows_the_runs(bench):
    def gradients(images, phrases):
        return 100 + 10 * images + images * phrases

    runs = [
        {"images": b, "phrases": p, "gradients": gradients(b, p), "update": 150}
        for b, p in bench.FITTED["paper"]
    ]
    assert bench._formula(runs)(8, 33) == pytest.approx(gradients(8, 33))
    assert bench._formula(runs)(1, 1) == 150


@pytest.mark.slow
def test_a_table_in_miniature_measures_the_smaller_rows_and_computes_the_larger_ones(
    bench, monkeypatch, capsys
):
    def run(given, architecture, images, phrases):  # in this process, to load torch once
        own = argparse.Namespace(**vars(given) | {"architecture": [architecture]})
        return {**bench._measured(own, images, phrases), "images": images, "phrases": phrases}

    monkeypatch.setattr(bench, "_run", run)
    flags = ["--size", "small", "--image-size", "64", "--images", "2", "30", "--phrases", "4"]
    flags += ["--largest", "0.08", "--device", "cpu", "--architecture", "mdetr"]
    lines = tool_runs.run(monkeypatch, capsys, bench, *flags).splitlines()
    assert lines[0].startswith("CPU, torch ") and lines[0].endswith(", size small, precision no")
    measured, computed = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines[-2:])
    assert measured[:4] == ["mdetr", "64", "2", "4"] and computed[:4] == ["mdetr", "64", "30", "4"]
    assert 0.01 < float(measured[4]) < 0.1 and abs(float(measured[6].split()[0])) < 1
    assert computed[4].startswith("~") and computed[5:] == ["", ""]


def test_a_row_of_its_own_process_that_fails_is_one_line(bench, monkeypatch):
    given = argparse.Namespace(size="small", image_size=64, precision="no", device="cpu")
    monkeypatch.setattr(bench.sys, "executable", "/bin/false")
    with pytest.raises(SystemExit, match=r"^2 images with 4 phrases: "):
        bench._run(given, "transvg", 2, 4)
