"""medground detect-anatomy: images in, named regions out, whatever happens on the way."""

import json
import shlex
import subprocess
import sys
import time

import drawn_images
import numpy as np
import pytest
import torch
import warm
from click.testing import CliRunner
from PIL import Image

from medground import checkpoints, images
from medground.anatomy import augment, detect, regions
from medground.anatomy.detect import Found
from medground.anatomy.region_query import Config
from medground.boxes import Letterbox
from medground.cli.main import cli
from medground.record_json import known_keys
from medground.records import Image as ImageRecord
from medground.training.detectors import region_query
from medground.training.detectors.region_query import Options

SIZE = 48


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A detector that has learned the drawn images."""
    folder = tmp_path_factory.mktemp("run")
    config = Config(names=tuple(regions.NAMES), size=SIZE, channels=(8, 16, 24, 32), width=32, heads=2)
    calm = augment.Ranges(light=0.3, shadow=0.2, noise=0.1, bend=0.1, turn=2, zoom=0.1, spoilt=0.3)
    how = Options(steps=550, batch_size=8, lr=6e-3, ranges=calm)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same model, however many cores the machine has
    try:
        assert region_query.train(drawn_images.image_set(64, SIZE), None, config, folder, how)
    finally:
        torch.set_num_threads(threads)
    return folder / "model.safetensors"


@pytest.fixture
def listed(tmp_path):
    """A folder of six images and their lines without regions."""
    lines = drawn_images.write_images(tmp_path / "images", 6, seed=7)
    for line in lines:
        del line["regions"]
    return lines


@pytest.fixture
def run(tmp_path, model):
    """Run `medground detect-anatomy` on a list, given as lines, over the images folder."""

    def detect_anatomy(lines, *flags: str):
        command = ["detect-anatomy", "--images", str(tmp_path / "images"), "--model", str(model)]
        source = "".join(json.dumps(line) + "\n" for line in lines) if lines is not None else None
        return CliRunner().invoke(cli, [*command, "--device", "cpu", *flags], input=source)

    return detect_anatomy


def answers(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.slow
def test_regions_are_found_near_where_they_are(run, listed, tmp_path):
    truth = {line["image_id"]: line for line in drawn_images.write_images(tmp_path / "again", 6, seed=7)}
    result = run(listed)
    assert result.exit_code == 0, result.output
    overlaps = []
    for line in answers(result.stdout):
        assert (line["width"], line["height"]) == (120, 100)
        true = {each["name"]: each["box"] for each in truth[line["image_id"]]["regions"]}
        for region in line["regions"]:
            if region["name"] in true:
                overlaps.append(overlap(region["box"], true[region["name"]]))
    assert len(overlaps) > 15 and np.mean(overlaps) > 0.6


def overlap(a, b) -> float:
    both = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


@pytest.mark.slow
def test_every_line_keeps_what_it_carries(run, listed, model):
    result = run([listed[0] | {"split": "train", "subject_id": "p1", "view": "PA"}])
    (line,) = answers(result.stdout)
    assert (line["study_id"], line["subject_id"], line["view"], line["split"]) == ("s1", "p1", "PA", "train")
    assert line["model"] == checkpoints.hash_of(model)


@pytest.mark.slow
def test_boxes_are_rounded_scored_inside_and_at_most_one_a_region(run, listed):
    for line in answers(run(listed, "--min-score", "0").stdout):
        names = [each["name"] for each in line["regions"]]
        assert len(names) == len(set(names))
        for region in line["regions"]:
            x1, y1, x2, y2 = region["box"]
            assert 0 <= x1 < x2 <= 120.1 and 0 <= y1 < y2 <= 100.1
            assert region["box"] == [round(each, 1) for each in region["box"]]
            assert 0 <= region["score"] <= 1


@pytest.mark.slow
def test_what_scores_too_little_is_left_out(run, listed):
    counts = []
    for least in ("0", "0.5", "1"):
        lines = answers(run(listed, "--min-score", least).stdout)
        counts.append(sum(len(line["regions"]) for line in lines))
        assert all(each["score"] >= float(least) for line in lines for each in line["regions"])
    assert counts[0] > counts[1] > counts[2]


@pytest.mark.slow
def test_any_batch_gives_the_same_boxes(run, listed):
    one, many = (answers(run(listed, "--batch-size", size).stdout) for size in ("1", "4"))
    for a, b in zip(one, many, strict=True):
        assert [each["name"] for each in a["regions"]] == [each["name"] for each in b["regions"]]
        for x, y in zip(a["regions"], b["regions"], strict=True):
            assert x["box"] == pytest.approx(y["box"], abs=0.11)


@pytest.mark.slow
def test_a_folder_and_a_list_of_paths_do_as_well(run, listed, tmp_path):
    by_lines = {line["image_id"]: line["regions"] for line in answers(run(listed).stdout)}
    by_folder = {
        line["image_id"]: line["regions"] for line in answers(run(None, str(tmp_path / "images")).stdout)
    }
    (tmp_path / "list.txt").write_text("".join(line["path"] + "\n" for line in listed))
    by_paths = {
        line["image_id"]: line["regions"] for line in answers(run(None, str(tmp_path / "list.txt")).stdout)
    }
    assert by_lines.keys() == by_folder.keys() == by_paths.keys()
    (line,) = answers(run(None, str(tmp_path / "images" / listed[0]["path"])).stdout)
    assert line["image_id"] == listed[0]["image_id"]


@pytest.mark.slow
def test_no_images_give_no_lines(run, listed):
    result = run([])
    assert (result.exit_code, result.stdout) == (0, "")


@pytest.mark.slow
def test_what_is_no_chest_is_flagged_and_not_boxed(run, listed, tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (100, 120), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "images" / "noise.png")
    with Image.open(tmp_path / "images" / listed[0]["path"]) as image:
        image.rotate(90, expand=True).save(tmp_path / "images" / "turned.png")
    result = run([listed[0], *({"image_id": name, "path": f"{name}.png"} for name in ("noise", "turned"))])
    lines = answers(result.stdout)
    assert "view" not in lines[0] and lines[0]["regions"]
    assert [(each["view"], each["regions"]) for each in lines[1:]] == [("other", [])] * 2
    assert result.stderr.count("probably not a single upright frontal chest X-ray") == 2


@pytest.mark.slow
def test_a_view_known_to_be_lateral_gets_no_boxes(run, listed):
    (line,) = answers(run([listed[0] | {"view": "LATERAL"}]).stdout)
    assert (line["view"], line["regions"]) == ("LATERAL", [])


def test_left_and_right_the_wrong_way_round_are_no_chest():
    def found(right, left):
        boxes = {
            "right lung": right,
            "left lung": left,
            "spine": (4, 0, 6, 9),
            "cardiac silhouette": (4, 4, 8, 8),
        }
        return [Found(name, box, 0.9) for name, box in boxes.items()]

    assert detect.is_chest(found((0, 0, 4, 8), (6, 0, 10, 8)), 0.5)
    assert not detect.is_chest(found((6, 0, 10, 8), (0, 0, 4, 8)), 0.5)
    assert not detect.is_chest([], 0.5)


def test_a_detector_that_knows_one_lung_is_not_doubted_for_the_rest():
    assert detect.doubt_of([*detect.CORE, None], 0.4) == 0.4
    doubt = detect.doubt_of(["left lung", "carina"], 0.4)
    assert detect.is_chest([Found("left lung", (6, 0, 10, 8), 0.5)], doubt)
    assert not detect.is_chest([Found("left lung", (6, 0, 10, 8), 0.3)], doubt)


class Ruler:
    """A detector that always finds one region in the middle of its square."""

    size, model, doubt = 64, "ruler", 0.0

    def find(self, squares):
        return [[Found("spine", (16, 16, 48, 48), 0.9)] for _ in squares]

    def close(self):
        pass


@pytest.mark.parametrize(("width", "height"), [(200, 100), (100, 200), (63, 64), (1000, 3)])
def test_boxes_are_in_pixels_of_the_image(tmp_path, width, height):
    Image.fromarray(np.full((height, width), 99, np.uint8)).save(tmp_path / "a.png")
    records = [ImageRecord(image_id="a", path="a.png")]
    (found,) = detect.detect_regions(records, tmp_path, Ruler(), None, 8, 0.5)
    expected = Letterbox(width, height, 64).to_original(np.array([[16.0, 16, 48, 48]]))[0]
    clipped = np.clip(expected, 0, [width, height, width, height])
    assert found.regions[0].box == pytest.approx(clipped, abs=0.06)


# Bad input


@pytest.mark.slow
def test_an_unreadable_image_ends_the_run_with_one_line(run, listed, tmp_path):
    (tmp_path / "images" / listed[2]["path"]).write_bytes(b"no image")
    result = run(listed, "-o", str(tmp_path / "out.jsonl"))
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1 and "image7_2.png: not an image" in result.stderr
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.slow
def test_unreadable_images_can_be_put_aside(run, listed, tmp_path):
    (tmp_path / "images" / listed[2]["path"]).write_bytes(b"no image")
    result = run([*listed, {"image_id": "x"}], "--rejects", str(tmp_path / "rejects.jsonl"))
    assert result.exit_code == 0 and len(answers(result.stdout)) == 5
    rejected = answers((tmp_path / "rejects.jsonl").read_text())
    assert {each["image_id"] for each in rejected} == {"x", "image7_2"}


@pytest.mark.slow
def test_all_images_rejected_is_a_failure(run, listed, tmp_path):
    lines = [line | {"path": "gone.png"} for line in listed]
    result = run(lines, "--rejects", str(tmp_path / "rejects.jsonl"))
    assert result.exit_code == 1 and "every image was rejected" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04 a pickle of torch", "a pickle"),
        (b"words", "damaged, truncated or no safetensors"),
    ],
)
def test_what_is_no_model_is_one_line(run, listed, tmp_path, content, said):
    (tmp_path / "bad.safetensors").write_bytes(content)
    result = run(listed, "--model", str(tmp_path / "bad.safetensors"))
    assert result.exit_code == 1 and said in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.slow
def test_another_kind_of_model_is_named(run, listed, tmp_path, model):
    weights, config = checkpoints.load(model)
    checkpoints.save(tmp_path / "m.safetensors", weights, {"kind": "grounder"})
    result = run(listed, "--model", str(tmp_path / "m.safetensors"))
    assert result.exit_code == 1 and "holds a grounder model, not a detector" in result.stderr
    assert run(listed, "--detector", "yolo").exit_code == 1
    checkpoints.save(tmp_path / "m.safetensors", weights, config | {"width": 16})
    result = run(listed, "--model", str(tmp_path / "m.safetensors"))
    assert result.exit_code == 1 and "weights of another architecture" in result.stderr


# Going on


@pytest.mark.slow
def test_resume_needs_a_file(run, listed):
    result = run(listed, "--resume")
    assert result.exit_code == 2 and "--resume requires -o FILE" in result.stderr


@pytest.mark.slow
def test_resume_keeps_whole_lines_and_does_the_rest(run, listed, tmp_path, monkeypatch):
    target = tmp_path / "out.jsonl"
    assert run(listed, "-o", str(tmp_path / "whole.jsonl")).exit_code == 0
    whole = (tmp_path / "whole.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    (tmp_path / "out.jsonl.partial").write_bytes(b"".join(lines[:2]) + lines[2][:40])
    looked = []
    real = images.load_shown
    monkeypatch.setattr(images, "load_shown", lambda path: looked.append(path) or real(path))
    result = run(listed, "--resume", "-o", str(target), "--batch-size", "2")
    assert result.exit_code == 0, result.output
    assert target.read_bytes() == whole and len(looked) == 4
    assert not (tmp_path / "out.jsonl.partial").exists()


@pytest.mark.slow
def test_resume_does_half_a_batch_again(run, listed, tmp_path):
    target = tmp_path / "out.jsonl"
    run(listed, "-o", str(target), "--batch-size", "4")
    lines = target.read_bytes().splitlines(keepends=True)
    target.unlink()
    (tmp_path / "out.jsonl.partial").write_bytes(b"".join([*lines[:4], b"{}\n"]))
    result = run(listed, "--resume", "-o", str(target), "--batch-size", "4")
    assert result.exit_code == 1, "a line without a model is another model's"
    (tmp_path / "out.jsonl.partial").write_bytes(b"".join([*lines[:4], lines[4]]))
    assert run(listed, "--resume", "-o", str(target), "--batch-size", "4").exit_code == 0
    assert target.read_bytes() == b"".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_the_shards_are_together_the_whole(run, listed, count):
    own = [each | {"subject_id": f"p{number // 2}"} for number, each in enumerate(listed)]
    whole = run(own).stdout.splitlines()
    parts = [run(own, "--shard", f"{n}/{count}").stdout.splitlines() for n in range(1, count + 1)]
    assert len(whole) == 6 and sorted(line for part in parts for line in part) == sorted(whole)


@pytest.mark.slow
def test_resume_adds_to_a_finished_file(run, listed, tmp_path):
    target = tmp_path / "out.jsonl"
    run(listed[:3], "-o", str(target))
    before = target.read_bytes()
    assert run(listed, "--resume", "-o", str(target)).exit_code == 0
    assert target.read_bytes().startswith(before) and len(answers(target.read_text())) == 6
    after = target.read_bytes()
    assert run(listed, "--resume", "-o", str(target)).exit_code == 0
    assert target.read_bytes() == after


@pytest.mark.slow
def test_resume_does_not_mix_models(run, listed, tmp_path):
    target = tmp_path / "out.jsonl"
    run(listed[:3], "-o", str(target))
    target.write_text(target.read_text().replace('"model":"', '"model":"0'))
    result = run(listed, "--resume", "-o", str(target))
    assert result.exit_code == 1 and "boxes of another model" in result.stderr


@pytest.mark.slow
def test_resume_says_what_is_no_earlier_run(run, listed, tmp_path):
    (tmp_path / "out.jsonl").write_text("words\n")
    result = run(listed, "--resume", "-o", str(tmp_path / "out.jsonl"))
    assert result.exit_code == 1 and "out.jsonl.partial:1: not a line of an earlier run" in result.stderr


@pytest.mark.slow
def test_killed_again_and_again_every_image_has_one_line(tmp_path, model):
    lines = drawn_images.write_images(tmp_path / "images", 120, seed=3)
    source = drawn_images.write_jsonl(tmp_path / "list.jsonl", lines)
    target = tmp_path / "out.jsonl"
    command = [
        sys.executable,
        "-m",
        "medground",
        "detect-anatomy",
        str(source),
        "--resume",
        "-o",
        str(target),
    ]
    command += [
        "--images",
        str(tmp_path / "images"),
        "--model",
        str(model),
        "--batch-size",
        "4",
        "--device",
        "cpu",
    ]
    partial, before = tmp_path / "out.jsonl.partial", 0
    for _ in range(2):
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as child:
            while child.poll() is None and (not partial.exists() or partial.stat().st_size <= before):
                time.sleep(0.002)
            child.kill()
        before = partial.stat().st_size if partial.exists() else 0
    assert subprocess.run(command, stderr=subprocess.PIPE).returncode == 0
    assert [each["image_id"] for each in answers(target.read_text())] == [each["image_id"] for each in lines]


def test_image_records_are_a_part_of_anatomy():
    assert known_keys(ImageRecord) < known_keys(detect.Anatomy)


@pytest.mark.slow
def test_a_closed_pipe_is_quiet(tmp_path, model):
    lines = drawn_images.write_images(tmp_path / "images", 12, seed=3)
    source = drawn_images.write_jsonl(tmp_path / "list.jsonl", lines)
    command = (
        f"{shlex.join(warm.python())} -m medground detect-anatomy {source} --images {tmp_path / 'images'}"
    )
    done = subprocess.run(
        ["bash", "-c", f"{command} --model {model} --any-view --batch-size 1 | head -1"],
        capture_output=True,
        text=True,
    )
    assert len(done.stdout.splitlines()) == 1 and done.stderr == ""
