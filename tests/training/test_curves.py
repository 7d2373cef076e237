"""The picture of a run's losses."""

import json

import numpy as np

from medground.training import curves


def test_points_are_read_by_name(tmp_path):
    lines = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2, "l1": 0.5}, {"step": 2, "validation": 0.4}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = curves.read(tmp_path / "metrics.jsonl")
    assert found == {"loss": [(1, 3.0), (2, 2.0)], "l1": [(2, 0.5)], "validation": [(2, 0.4)]}


def test_a_curve_that_falls_is_drawn_falling():
    page = np.array(curves.draw({"loss": [(step, 1 / step) for step in range(1, 50)]}).convert("RGB"))
    blue = (page[..., 2].astype(int) - page[..., 0] > 60).nonzero()
    rows, columns = blue
    left, right = rows[columns < np.median(columns)], rows[columns > np.median(columns)]
    assert left.mean() < right.mean()  # rows count from the top


def test_each_curve_has_its_panel_and_one_point_is_enough():
    width, height = curves.PANEL
    assert curves.draw({name: [(7, 1.0)] for name in "abcd"}).size == (width * 3, height * 2)


def test_the_best_validation_is_marked():
    page = np.array(curves.draw({"validation": [(1, 0.1), (2, 0.9), (3, 0.2)]}).convert("RGB"))
    red = (page[..., 0].astype(int) - page[..., 2] > 100).nonzero()
    assert len(red[0])
