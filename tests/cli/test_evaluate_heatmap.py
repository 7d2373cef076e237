"""The protocol heatmap against a loop over pixels."""

import base64
import io
import json
import math
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors

from medground.cli.main import cli

WIDTH, HEIGHT = 40, 30
CATEGORIES = ("Edema", "Nodule")


def phrase(number: int, boxes: list[list[int]], **more: object) -> dict:
    own = {"image_id": f"i{number}", "phrase_id": f"p{number}", "subject_id": f"s{number}", "path": "x.png"}
    shape = {"width": WIDTH, "height": HEIGHT, "text": "opacity", "category": CATEGORIES[number % 2]}
    return own | shape | {"boxes": boxes} | more


def random_box(rng: random.Random) -> list[int]:
    x, y = sorted(rng.sample(range(WIDTH + 1), 2)), sorted(rng.sample(range(HEIGHT + 1), 2))
    return [x[0], y[0], x[1], y[1]]


@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(truth: list[dict], maps: dict[str, np.ndarray] | None, *flags: str, file: str = "maps.npz"):
        Path("truth.jsonl").write_text("".join(json.dumps(each) + "\n" for each in truth))
        if maps is not None and file.endswith(".npz"):
            np.savez(file, **maps)
        elif maps is not None:
            save_file(maps, file)
        command = [
            "evaluate",
            file,
            "--protocol",
            "heatmap",
            "--truth",
            "truth.jsonl",
            "--bootstrap-samples",
            "200",
            *flags,
        ]
        return CliRunner().invoke(cli, command)

    return run


def figures(result) -> dict[tuple[str, str], dict]:
    assert result.exit_code == 0, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    return {(each["group"], each["metric"]): each for each in found}


def slow_figures(heat: np.ndarray, boxes: list[list[int]]) -> tuple[float, float]:
    """(IoU, contrast) pixel by pixel, for a heat map as large as the image."""
    inside = {(x, y) for b in boxes for x in range(b[0], b[2]) for y in range(b[1], b[3])}
    ious = []
    for threshold in (0.1, 0.2, 0.3, 0.4, 0.5):
        hot = {(x, y) for y in range(HEIGHT) for x in range(WIDTH) if heat[y, x] > threshold}
        ious.append(len(hot & inside) / len(hot | inside))
    within = [heat[y, x] for y in range(HEIGHT) for x in range(WIDTH) if (x, y) in inside]
    without = [heat[y, x] for y in range(HEIGHT) for x in range(WIDTH) if (x, y) not in inside]
    noise = math.sqrt(np.var(within) + np.var(without))
    return sum(ious) / 5, abs(np.mean(within) - np.mean(without)) / noise


@pytest.fixture
def cohort():
    rng, noise = random.Random(4), np.random.default_rng(4)
    truth = [phrase(n, [random_box(rng) for _ in range(1 + n % 3)]) for n in range(8)]
    return truth, {each["phrase_id"]: noise.uniform(-0.5, 1, (HEIGHT, WIDTH)) for each in truth}


@pytest.mark.parametrize("file", ["maps.npz", "maps.safetensors"])
def test_iou_and_contrast_against_pixels(evaluate, cohort, file):
    truth, maps = cohort
    result = figures(evaluate(truth, maps, file=file))
    slow = [slow_figures(maps[each["phrase_id"]], each["boxes"]) for each in truth]
    assert result["all", "miou"]["value"] == pytest.approx(np.mean([iou for iou, _ in slow]), abs=1e-9)
    assert result["all", "cnr"]["value"] == pytest.approx(np.mean([cnr for _, cnr in slow]), abs=1e-9)
    means = [np.mean([slow[n][0] for n in range(8) if n % 2 == part]) for part in (0, 1)]
    assert result["macro", "miou"]["value"] == pytest.approx(np.mean(means), abs=1e-9)


def test_the_prior_is_a_heat_map_of_one_box(evaluate, cohort):
    truth, maps = cohort
    box = [4, 6, 20, 24]
    train = [phrase(n, [box]) for n in range(20, 28)]
    Path("train.jsonl").write_text("".join(json.dumps(each) + "\n" for each in train))
    result = figures(evaluate(truth, maps, "--train", "train.jsonl"))
    heat = np.zeros((HEIGHT, WIDTH))
    heat[box[1] : box[3], box[0] : box[2]] = 1
    slow = [slow_figures(heat, each["boxes"]) for each in truth]
    assert result["all", "prior_miou"]["value"] == pytest.approx(np.mean([iou for iou, _ in slow]), abs=1e-9)
    assert result["all", "prior_cnr"]["value"] == pytest.approx(np.mean([cnr for _, cnr in slow]), abs=1e-9)


def test_names_may_hold_the_image(evaluate, cohort):
    truth, maps = cohort
    longer = {f"{each['image_id']}/{each['phrase_id']}": maps[each["phrase_id"]] for each in truth}
    both = [evaluate(truth, each, file=f"{n}.safetensors") for n, each in enumerate((maps, longer))]
    assert figures(both[0])["all", "miou"]["value"] == figures(both[1])["all", "miou"]["value"]


def test_a_comparison_of_two_files_of_heat_maps(evaluate, cohort):
    truth, maps = cohort
    np.savez("other.npz", **{name: each * 0 for name, each in maps.items()})
    result = figures(evaluate(truth, maps, "--compare", "other.npz"))
    assert result["all", "difference_miou"]["value"] == result["all", "miou"]["value"]
    assert result["all", "other_cnr"]["value"] == 0


def test_a_missing_heat_map_counts_as_zero_and_is_reported(evaluate, cohort):
    truth, maps = cohort
    kept = {name: each for name, each in maps.items() if name != "p0"}
    whole, part = evaluate(truth, maps | {"p0": maps["p0"] * 0}), evaluate(truth, kept)
    assert figures(part)["all", "miou"]["value"] == pytest.approx(figures(whole)["all", "miou"]["value"])
    assert "without a heat map" in part.stderr


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ({"p9": np.zeros((2, 2))}, "array 1: the truth has no such phrase"),
        ({"p0": np.zeros(3)}, "array 1: expected finite numbers, or NaN, in two dimensions"),
        ({"p0": np.full((2, 2), np.inf)}, "array 1: expected finite numbers, or NaN, in two dimensions"),
        ({"p0": np.full((2, 2), np.nan)}, "array 1: NaN everywhere (1 of 8 heat maps)"),
    ],
)
def test_what_is_no_heat_map_is_named(evaluate, cohort, maps, message):
    result = evaluate(cohort[0], maps)
    assert result.exit_code == 1 and message in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("file", ["maps.npz", "maps.safetensors", "maps.jsonl"])
def test_a_file_of_another_kind_is_refused(evaluate, cohort, file):
    Path(file).write_text("{}\n")
    result = evaluate(cohort[0], None, file=file)
    assert result.exit_code == 1 and file in result.stderr and "Traceback" not in result.stderr


def test_the_contrast_is_shown_as_a_ratio(evaluate, cohort):
    Image.fromarray(np.zeros((HEIGHT, WIDTH), dtype=np.uint8)).save("x.png")
    result = evaluate(*cohort, "--table", "--html", "page.html")
    value = figures(result)["all", "cnr"]["value"]
    assert f"{value:.2f} (" in result.stderr
    assert f"{value:.2f} (" in Path("page.html").read_text()


def test_the_page_shows_heat_maps_over_their_images(evaluate, cohort):
    truth, maps = cohort
    shown = [each | {"path": "image.png", "text": f"phrase {n}"} for n, each in enumerate(truth)]
    Image.fromarray(np.full((HEIGHT, WIDTH), 90, dtype=np.uint8)).save("image.png")
    np.savez("other.npz", **{name: each * 0 for name, each in maps.items()})
    flags = ("--compare", "other.npz", "--html", "page.html", "-o", "scores.jsonl")
    assert evaluate(shown, dict(list(maps.items())[1:]), *flags).exit_code == 0
    text = Path("page.html").read_text()
    assert all(words in text for words in ("differ most", "Best phrases", "Worst phrases", "phrase 7"))
    sources = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    assert len(sources) == 2 * (8 + 6)  # for both: all eight by difference, two of each kind
    hot, cold = (np.asarray(Image.open(io.BytesIO(base64.b64decode(each)))) for each in sources[:2])
    assert np.ptp(hot[..., 0].astype(int)) > np.ptp(cold[..., 0].astype(int)) / 2
    assert (hot[..., 0].astype(int) - hot[..., 2]).max() > 60 and abs(int(cold.mean()) - 90) < 20


def test_heat_maps_of_phrases_without_boxes_are_passed_over(evaluate, cohort):
    truth, maps = cohort
    more = [phrase(20, []), phrase(21, [])]
    more[1]["boxes"] = None
    extra = {each["phrase_id"]: np.zeros((2, 2)) for each in more}
    result = evaluate([*truth, *more], maps | extra)
    alone = figures(evaluate(truth, maps))["all", "miou"]
    assert (figures(result)["all", "miou"]["value"], alone["n"]) == (alone["value"], 8)


def test_a_bare_name_that_fits_several_phrases_is_refused(evaluate, cohort):
    truth, maps = cohort
    twin = phrase(30, [[1, 1, 9, 9]], phrase_id="p0")
    result = evaluate([*truth, twin], maps)
    assert result.exit_code == 1 and "array 1: more than one phrase of the truth" in result.stderr
    assert "Traceback" not in result.stderr
    whole = {f"{each['image_id']}/p0": np.ones((2, 2)) for each in (truth[0], twin)}
    others = {name: each for name, each in maps.items() if name != "p0"}
    assert evaluate([*truth, twin], others | whole).exit_code == 0


def test_bfloat16_is_read_as_the_numbers_that_it_holds(evaluate, cohort):
    truth, maps = cohort
    rounded = {name: torch.tensor(each).to(torch.bfloat16) for name, each in maps.items()}
    save_tensors(rounded, "half.safetensors")
    half = evaluate(truth, None, file="half.safetensors")
    whole = evaluate(truth, {name: each.float().numpy() for name, each in rounded.items()})
    assert figures(half)["all", "miou"]["value"] == figures(whole)["all", "miou"]["value"]


@pytest.mark.parametrize("array", [
    np.array([[{}, {}]], dtype=object), np.array([["1", "2"]]), np.ones((2, 2), dtype=complex),
])  # fmt: skip
def test_arrays_of_other_things_than_numbers_are_named(evaluate, cohort, array):
    result = evaluate(cohort[0], {"p0": array})
    assert result.exit_code == 1 and ".npz: array 1: " in result.stderr and "Traceback" not in result.stderr
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_a_damaged_member_of_an_npz_is_named(evaluate, cohort):
    np.savez_compressed("maps.npz", **cohort[1])
    content = bytearray(Path("maps.npz").read_bytes())
    content[200:400] = bytes(200)
    Path("maps.npz").write_bytes(content)
    result = evaluate(cohort[0], None)
    assert result.exit_code == 1 and "maps.npz: array 1: cannot be read" in result.stderr
    Path("maps.npz").write_bytes(b"")
    assert "not an npz file" in evaluate(cohort[0], None).stderr


def test_a_folder_of_npy_files_is_scored_as_their_npz(evaluate, cohort):
    truth, maps = cohort
    for each in truth:
        name = each["phrase_id"] if each["phrase_id"] != "p1" else "i1/p1"
        place = Path("maps", f"{name}.npy")
        place.parent.mkdir(parents=True, exist_ok=True)
        np.save(place, maps[each["phrase_id"]])
    both = (figures(evaluate(truth, maps)), figures(evaluate(truth, None, file="maps")))
    values = [{name: each["value"] for name, each in some.items()} for some in both]
    assert values[0] == values[1] and len(values[0]) > 10
    assert figures(evaluate(truth[:1], None, file="maps/p0.npy"))["all", "miou"]["n"] == 1


def test_folders_without_maps_and_damaged_npy_files_are_named(evaluate, cohort):
    truth, _ = cohort
    Path("empty").mkdir()
    assert "empty: no .npy file in this folder" in evaluate(truth, None, file="empty").stderr
    np.save("p0.npy", np.array([{}], dtype=object), allow_pickle=True)
    result = evaluate(truth, None, file="p0.npy")
    assert result.exit_code == 1 and "p0.npy: array 1: cannot be read" in result.stderr
    Path("p0.npy").write_bytes(b"")
    assert "p0.npy: array 1: cannot be read" in evaluate(truth, None, file="p0.npy").stderr
    args = ["evaluate", "empty", "--truth", "truth.jsonl"]
    result = CliRunner().invoke(cli, args)
    assert result.exit_code == 2 and "only heat maps may be a folder" in result.stderr


# --- maps that do not cover the whole image -----------------------------------------------------------------


def test_cells_that_are_nan_were_not_seen(evaluate, cohort):
    """They are never hot, and do not count in the contrast: here with a loop over pixels."""
    truth, maps = cohort
    for each in maps.values():
        each[:4], each[-3:] = np.nan, np.nan
    result = figures(evaluate(truth, maps))
    ious, contrasts, hits = [], [], []
    for each in truth:
        heat, boxes = maps[each["phrase_id"]], each["boxes"]
        inside = {(x, y) for b in boxes for x in range(b[0], b[2]) for y in range(b[1], b[3])}
        seen = {(x, y): heat[y, x] for y in range(4, HEIGHT - 3) for x in range(WIDTH)}
        hot = [{place for place, value in seen.items() if value > t} for t in (0.1, 0.2, 0.3, 0.4, 0.5)]
        ious.append(np.mean([len(some & inside) / len(some | inside) for some in hot]))
        parts = [[v for place, v in seen.items() if (place in inside) is side] for side in (True, False)]
        contrasts.append(abs(np.mean(parts[0]) - np.mean(parts[1])) / math.sqrt(sum(map(np.var, parts))))
        hits.append(max(seen, key=seen.get) in inside)
    expected = {"miou": np.mean(ious), "cnr": np.mean(contrasts), "pointing": np.mean(hits)}
    for name, value in expected.items():
        assert result["all", name]["value"] == pytest.approx(value, abs=1e-9)


def test_equally_high_cells_share_the_hit(evaluate):
    heat = np.zeros((HEIGHT, WIDTH))
    heat[0, :4] = 1
    assert figures(evaluate([phrase(0, [[0, 0, 3, 5]])], {"p0": heat}))["all", "pointing"]["value"] == 0.75


def test_maps_of_a_square_crop_are_shown(evaluate, cohort):
    truth, maps = cohort
    Image.fromarray(np.zeros((HEIGHT, WIDTH), dtype=np.uint8)).save("x.png")
    for each in maps.values():
        each[:, :5] = np.nan
    assert evaluate(truth, maps, "--html", "page.html").exit_code == 0
