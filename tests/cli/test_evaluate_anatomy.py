"""The protocol anatomy against loops over regions and images."""

import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from medground.cli.main import cli

NAMES = ["carina", "left lung", "right lung"]


def anatomy(number: int, regions: list[dict], **more: object) -> dict:
    own = {
        "image_id": f"i{number}",
        "subject_id": f"s{number // 2}",
        "path": "x.png",
        "width": 100,
        "height": 80,
    }
    return own | {"regions": regions} | more


def region(name: str, *box: float, score: float = 1.0) -> dict:
    return {"name": name, "box": list(box), "score": score}


def lines(records: list[dict]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(answers: list[dict], truth: list[dict], *flags: str):
        Path("truth.jsonl").write_text(lines(truth))
        command = [
            "evaluate",
            "--protocol",
            "anatomy",
            "--truth",
            "truth.jsonl",
            "--bootstrap-samples",
            "200",
            *flags,
        ]
        return CliRunner().invoke(cli, command, input=lines(answers))

    return run


def figures(result) -> dict[tuple[str, str], dict]:
    assert result.exit_code == 0, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    return {(each["group"], each["metric"]): each for each in found}


def shifted(box: list[float], rng: random.Random) -> list[float]:
    return [box[0] + rng.randint(0, 8), box[1] + rng.randint(0, 8), *box[2:]]


def cohort(seed: int) -> tuple[list[dict], list[dict]]:
    """Truth with gaps, and answers that are near, missing, or of a region that is not there."""
    rng, truth, found = random.Random(seed), [], []
    spans = ((0, 40), (0, 30), (60, 100), (50, 80))
    for number in range(20):
        boxes = {name: [rng.randint(*span) for span in spans] for name in NAMES}
        truth.append(anatomy(number, [region(n, *box) for n, box in boxes.items() if rng.random() < 0.8]))
        near = {n: shifted(box, rng) if rng.random() < 0.7 else [0, 0, 20, 20] for n, box in boxes.items()}
        kept = [region(n, *box, score=rng.random()) for n, box in near.items() if rng.random() < 0.8]
        found.append(anatomy(number, kept))
    return truth, found


def slow_iou(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0, width) * max(0, height)
    return both / (sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)) - both)


def slow_figures(truth: list[dict], found: list[dict], names: list[str]) -> dict[str, float]:
    ious, rows = [], []
    for true, answer in zip(truth, found, strict=True):
        drawn = {each["name"]: each["box"] for each in true["regions"] if each["name"] in names}
        seen = {each["name"]: each for each in answer["regions"] if each["name"] in names}
        ious += [slow_iou(box, seen[name]["box"]) if name in seen else 0.0 for name, box in drawn.items()]
        rows += [
            (each["score"], name in drawn and slow_iou(drawn[name], each["box"]) >= 0.5)
            for name, each in seen.items()
        ]
    rows.sort(reverse=True)
    right, curve = 0, []
    for taken, (_, hit) in enumerate(rows, start=1):
        right += hit
        curve.append((right / len(ious), right / taken))
    precision = [max((p for r, p in curve if r >= level / 100 - 1e-12), default=0) for level in range(101)]
    return {
        "miou": sum(ious) / len(ious),
        "recall@.5": sum(iou >= 0.5 for iou in ious) / len(ious),
        "precision@.5": sum(hit for _, hit in rows) / len(rows),
        "ap@.5": sum(precision) / 101,
    }


@pytest.mark.parametrize("seed", range(3))
def test_every_figure_against_loops(evaluate, seed):
    truth, found = cohort(seed)
    result = figures(evaluate(found, truth))
    for group, names in {"all": NAMES, **{f"region:{name}": [name] for name in NAMES}}.items():
        for metric, value in slow_figures(truth, found, names).items():
            assert result[group, metric]["value"] == pytest.approx(value, abs=1e-9), (group, metric)
            assert result[group, metric]["low"] <= value <= result[group, metric]["high"]
    means = [slow_figures(truth, found, [name])["ap@.5"] for name in NAMES]
    assert result["macro", "ap@.5"]["value"] == pytest.approx(sum(means) / 3, abs=1e-9)
    assert result["all", "miou"]["n"] == sum(len(each["regions"]) for each in truth)


def test_regions_that_the_truth_never_has_are_not_scored(evaluate):
    truth = [anatomy(n, [region("carina", 10, 10, 20, 20)]) for n in range(2)]
    found = [anatomy(n, [region("carina", 10, 10, 20, 20), region("spine", 0, 0, 50, 80)]) for n in range(2)]
    assert figures(evaluate(found, truth))["all", "precision@.5"]["value"] == 1


def test_training_anatomy_gives_the_prior_of_each_region(evaluate):
    truth = [
        anatomy(n, [region("carina", 10, 10, 20, 20), region("left lung", 50, 0, 100, 80)]) for n in range(2)
    ]
    twice = [region("carina", 20, 20, 40, 40), region("left lung", 100, 0, 200, 160)]
    train = [anatomy(n, twice, width=200, height=160) for n in range(10, 14)]
    Path("train.jsonl").write_text(lines(train))
    found = figures(evaluate([anatomy(0, []), anatomy(1, [])], truth, "--train", "train.jsonl"))
    assert found["all", "prior_miou"]["value"] == 1
    assert found["all", "gain_miou"]["value"] == -1


def test_a_frame_of_another_size_is_refused(evaluate):
    truth = [anatomy(0, [region("carina", 10, 10, 20, 20)])]
    result = evaluate([anatomy(0, [region("carina", 10, 10, 20, 20)], width=640, height=640)], truth)
    assert result.exit_code == 1
    assert "<stdin>:1: width: the truth has this image in another size" in result.stderr


def test_images_that_only_one_side_has_are_reported(evaluate):
    truth = [anatomy(n, [region("carina", 10, 10, 20, 20)]) for n in range(2)]
    result = evaluate([anatomy(n, [region("carina", 10, 10, 20, 20)]) for n in range(1, 4)], truth)
    assert figures(result)["all", "miou"]["value"] == 0.5
    assert "skipped 2 images" in result.stderr and "no prediction for 1 of 2 images" in result.stderr


def test_a_comparison_is_paired(evaluate):
    truth, found = cohort(1)
    Path("other.jsonl").write_text(lines([each | {"regions": []} for each in found]))
    result = figures(evaluate(found, truth, "--compare", "other.jsonl"))
    assert result["all", "difference_ap@.5"]["value"] == pytest.approx(result["all", "ap@.5"]["value"])
    assert result["all", "difference_miou"]["p"] < 0.02


def test_the_protocol_stands_alone(evaluate):
    for flags, word in ((["--protocol", "set"], "cannot be combined"), (["--split", "test"], "no --split")):
        result = evaluate([], [], *flags)
        assert result.exit_code == 2 and word in result.stderr


def test_a_region_named_twice_and_an_image_named_twice_are_bad_lines(evaluate):
    twice = [region("carina", 1, 1, 2, 2), region("carina", 3, 3, 4, 4)]
    assert "regions: a region comes twice" in evaluate([anatomy(0, twice)], [anatomy(0, [])]).stderr
    assert "<stdin>:2: image_id" in evaluate([anatomy(0, []), anatomy(0, [])], [anatomy(0, [])]).stderr


# Anatomical sanity


def sane(number: int, **moved: list[float]) -> dict:
    boxes = {
        "right lung": [10, 10, 45, 60],
        "left lung": [55, 10, 90, 60],
        "spine": [47, 0, 53, 80],
        "cardiac silhouette": [40, 35, 70, 60],
    }
    moved = {name.replace("_", " "): box for name, box in moved.items()}
    return anatomy(number, [region(name, *box) for name, box in (boxes | moved).items()])


def test_sanity_is_reported_by_rule_and_by_image(evaluate):
    truth = [sane(n) for n in range(4)]
    turned = {"left_lung": [10, 10, 45, 60], "right_lung": [55, 10, 90, 60]}
    found = figures(evaluate([*truth[:2], sane(2, **turned), anatomy(3, [])], truth))
    assert found["all", "consistent_images"] | {"low": 0, "high": 0} == found["all", "consistent_images"] | {
        "value": round(2 / 3, 10),
        "n": 3,
        "low": 0,
        "high": 0,
    }
    rule = found["rule:left lung right of right lung", "consistent"]
    assert (rule["value"], rule["n"]) == (round(2 / 3, 10), 3)
    assert found["all", "consistent"]["n"] == 3 * 3  # sides, heart between lungs, spine between lungs
    assert not any("carina" in group for group, metric in found if metric == "consistent")


def test_without_boxes_there_is_no_sanity_to_tell(evaluate):
    found = figures(evaluate([anatomy(0, [])], [sane(0)]))
    assert not any(metric == "consistent" for _, metric in found)
    assert found["all", "consistent_images"]["value"] is None


def test_sanity_is_compared_too(evaluate):
    truth = [sane(n) for n in range(4)]
    Path("other.jsonl").write_text(lines([sane(n, spine=[92, 0, 98, 80]) for n in range(4)]))
    found = figures(evaluate(truth, truth, "--compare", "other.jsonl"))
    assert found["all", "difference_consistent_images"]["value"] == 1
    assert found["rule:spine between right lung and left lung", "other_consistent"]["value"] == 0


# Pictures


@pytest.fixture
def image(tmp_path):
    Image.new("L", (100, 80), 90).save(tmp_path / "x.png")


def test_the_page_shows_the_worst_ten_images(evaluate, image):
    truth = [sane(n) for n in range(14)]
    moved = [sane(n, right_lung=[10 + n, 10, 45 + n, 60]) for n in range(14)]
    result = evaluate(moved, truth, "--html", "page.html", "--table")
    assert result.exit_code == 0, result.stderr
    page = Path("page.html").read_text()
    assert "Worst images" in page and page.count("data:image/jpeg") == 10
    shown = [n for n in range(14) if f"i{n}: mean IoU" in page]
    assert shown == list(range(4, 14))
    assert page.index("i13: mean IoU") < page.index("i12: mean IoU")
    assert "right lung 0.4" in page and "consistent_images" in page


def test_a_second_model_has_its_own_pictures(evaluate, image):
    truth = [sane(n) for n in range(2)]
    Path("other.jsonl").write_text(lines([anatomy(n, []) for n in range(2)]))
    assert evaluate(truth, truth, "--html", "page.html", "--compare", "other.jsonl").exit_code == 0
    page = Path("page.html").read_text()
    assert page.count("data:image/jpeg") == 4 and "right lung 0.00" in page and "right lung 1.00" in page
