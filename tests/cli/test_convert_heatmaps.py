"""medground convert predictions --input-format heatmap, against a reference of ten lines."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from medground.cli.main import cli

WIDTH, HEIGHT = 250, 300


def phrases(count: int) -> list[dict]:
    own = {"path": "x.png", "width": WIDTH, "height": HEIGHT, "text": "opacity", "boxes": None}
    return [own | {"image_id": f"i{n}", "phrase_id": f"p{n}"} for n in range(count)]


@pytest.fixture
def convert(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(maps: dict[str, np.ndarray], *flags: str, code: int = 0, count: int = 0, file: str = "maps.npz"):
        (np.savez(file, **maps) if file.endswith(".npz") else save_file(maps, file))
        lines = "".join(json.dumps(each) + "\n" for each in phrases(count or len(maps)))
        Path("phrases.jsonl").write_text(lines)
        args = ["convert", "predictions", file, "--phrases", "phrases.jsonl", "--input-format", "heatmap"]
        result = CliRunner().invoke(cli, [*args, *flags, "-o", "out.jsonl"])
        assert result.exit_code == code, result.output
        return result.stderr if code else [*map(json.loads, Path("out.jsonl").read_text().splitlines())]

    return run


def slow_boxes(heat: np.ndarray, share: float, keep: str) -> list[tuple[list[float], float]]:
    """Boxes and scores by flooding from each hot cell."""
    left = {(y, x) for y, x in np.argwhere(heat >= share * np.nanmax(heat)).tolist()}
    parts = []
    while left:
        part, edge = set(), [min(left)]
        while edge:
            y, x = edge.pop()
            if (y, x) in left:
                left.remove((y, x)), part.add((y, x))
                edge += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
        parts.append(part)
    peak = {id(part): max(heat[cell] for cell in part) for part in parts}
    parts.sort(key=lambda part: -peak[id(part)])
    parts = {"all": parts, "peak": parts[:1], "largest": [max(parts, key=len)]}[keep]
    down, across = HEIGHT / heat.shape[0], WIDTH / heat.shape[1]
    found = []
    for part in parts:
        rows, columns = zip(*part, strict=True)
        corners = min(columns) * across, min(rows) * down, (max(columns) + 1) * across, (max(rows) + 1) * down
        found.append(([round(each, 1) for each in corners], round(peak[id(part)], 4)))
    return found


@pytest.mark.parametrize("file", ["maps.npz", "maps.safetensors"])
@pytest.mark.parametrize("keep", ["peak", "largest", "all"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.95])
def test_boxes_are_those_of_the_reference(convert, file, keep, share):
    noise = np.random.default_rng(4)
    maps = {f"i{n}/p{n}": noise.uniform(-1, 0.9, (11 + n, 7)) for n in range(4)}
    for each in maps.values():
        each[0], each[-2:] = np.nan, np.nan
    for found, heat in zip(
        convert(maps, "--map-threshold", str(share), "--map-boxes", keep, file=file),
        maps.values(),
        strict=True,
    ):
        boxes = [(each["box"], each["score"]) for each in found["boxes"]]
        assert boxes == slow_boxes(heat, share, keep)
        assert found["present"] == max(score for _, score in boxes) and found["model"] == "heatmap"


def test_the_default_is_the_largest_part_from_half_of_the_maximum(convert):
    heat = np.zeros((6, 5))
    heat[1, 1], heat[3:5, 2:4], heat[5, 4] = 0.9, 0.5, 0.44
    [found] = convert({"p0": heat})
    assert found["boxes"] == [{"box": [100, 150, 200, 250], "score": 0.5}]
    assert found["text"] == "opacity"


def test_a_map_of_boxes_gives_the_boxes_back(convert):
    from medground.grounding.heatmaps import heatmap
    from medground.records import ScoredBox

    true = ScoredBox(box=(50.0, 60.0, 150.0, 240.0), score=0.8)
    [found] = convert({"p0": heatmap([true], WIDTH, HEIGHT)})
    assert np.abs(np.subtract(found["boxes"][0]["box"], true.box)).max() < HEIGHT / 128


def test_a_map_without_a_value_above_zero_has_no_box(convert):
    found, whole = convert({"p0": np.full((4, 4), -0.2), "p1": np.full((4, 4), 0.2)})
    assert found["boxes"] == [] and found["present"] == 0
    assert whole["boxes"] == [{"box": [0, 0, WIDTH, HEIGHT], "score": 0.2}]


def test_maps_without_a_number_are_counted_and_refused(convert):
    maps = {f"p{n}": np.full((3, 3), np.nan if n else 0.5) for n in range(3)}
    assert "maps.npz: array 2: NaN everywhere (2 of 3 heat maps)" in convert(maps, code=1)
    assert not Path("out.jsonl").exists()
    [found] = convert(maps, "--rejects", "names.txt")
    assert found["phrase_id"] == "p0" and Path("names.txt").read_text() == "p1\np2\n"


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ({"p0": np.full((2, 2), 255)}, "array 1: values above 1 are no scores"),
        ({"p0": np.full((2, 2), np.inf)}, "array 1: expected finite numbers, or NaN, in two dimensions"),
        ({"p0": np.array([[{}]], dtype=object)}, "array 1: cannot be read as an array of numbers"),
        ({"q0": np.zeros((2, 2))}, "array 1: the truth has no such phrase"),
    ],
)
def test_what_is_no_heat_map_is_named(convert, maps, message):
    assert message in convert(maps, code=1) and not Path("out.jsonl").exists()


def test_options_of_other_formats_are_refused(convert):
    assert "heatmap takes no --coordinates" in convert(
        {"p0": np.ones((2, 2))}, "--coordinates", "crop", code=2
    )
    args = ["convert", "predictions", "maps.npz", "--phrases", "phrases.jsonl", "--input-format", "csv"]
    result = CliRunner().invoke(cli, [*args, "--map-boxes", "all"])
    assert result.exit_code == 2 and "csv takes no --map-boxes" in result.stderr


def test_phrases_without_a_map_are_counted(convert):
    result = convert({"p0": np.ones((2, 2))}, count=3)
    assert len(result) == 1
