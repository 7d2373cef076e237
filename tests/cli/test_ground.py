"""medground ground as its user meets it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medground.boxes import Letterbox
from medground.cli.main import cli
from medground.grounding import backends, calibration, names, predict, views
from medground.models import grounder


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> toy.Toy:
    return toy.make(tmp_path_factory.mktemp("toy"), count=4)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    grounder.save(folder, grounder.build("small", ["bright spot", "left lung"]))
    return folder


def ground(model: Path, *args: object, given: str = ""):
    return CliRunner().invoke(cli, ["ground", "--model", str(model), *map(str, args)], input=given)


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.slow
def test_one_image_and_its_phrases(cohort, model):
    result = ground(model, cohort.folder / "image0.png", "bright spot", "left lung")
    assert result.exit_code == 0, result.stderr
    found = lines(result.stdout)
    assert [each["phrase_id"] for each in found] == ["image0|1", "image0|2"]
    for each in found:
        x1, y1, x2, y2 = each["boxes"][0]["box"]
        assert 0 <= x1 < x2 <= toy.WIDTH and 0 <= y1 < y2 <= toy.HEIGHT
        assert 0 <= each["present"] <= 1
        assert each["model"] == grounder.name_of(model)


def test_records_come_and_go_in_order_with_what_they_carry(cohort, model):
    text = Path(cohort.phrases).read_text()
    queries = [json.loads(line) | {"reader": "A"} for line in text.splitlines()]
    result = ground(model, "--images", cohort.folder, given="".join(json.dumps(a) + "\n" for a in queries))
    found = lines(result.stdout)
    assert [each["phrase_id"] for each in found] == [each["phrase_id"] for each in queries]
    assert all(each["reader"] == "A" and each["category"] == "Spot" for each in found)
    assert all("boxes" in each and len(each["boxes"]) == 1 for each in found)


@pytest.mark.slow
def test_many_phrases_of_an_image_give_what_each_gives_alone(cohort, model, monkeypatch):
    words = [f"left lung {number}" for number in range(7)]
    together = lines(ground(model, cohort.folder / "image1.png", *words).stdout)
    monkeypatch.setattr(predict, "MAX_PAIRS", 2)
    in_twos = lines(ground(model, cohort.folder / "image1.png", *words).stdout)
    for a, b in zip(together, in_twos, strict=True):
        assert np.allclose(a["boxes"][0]["box"], b["boxes"][0]["box"], atol=0.11)


def test_an_image_is_read_once_for_the_phrases_that_follow_one_another(cohort, model, monkeypatch):
    reads, real = [], views.images.load_shown
    monkeypatch.setattr(views.images, "load_shown", lambda path: reads.append(path) or real(path))
    ground(model, cohort.folder / "image0.png", "a", "b", "c")
    assert len(reads) == 1


@pytest.mark.slow
def test_overlays_are_drawn_one_for_each_phrase(cohort, model, tmp_path):
    result = ground(
        model, cohort.folder / "image0.png", "bright spot", "left lung", "--overlay", tmp_path / "o"
    )
    assert result.exit_code == 0, result.stderr
    names = sorted(path.name for path in (tmp_path / "o").iterdir())
    assert names == ["image0_1.png", "image0_2.png"]
    with Image.open(tmp_path / "o" / names[0]) as picture:
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    assert (np.ptp(colours, axis=1) > 60).any()  # a coloured box on a grey image


def test_names_of_files_tell_ids_apart_and_stay_in_their_folder():
    ids = [("a", "1"), ("b", "1"), ("a", "a|1"), ("a", "a_1"), ("a", "s/1"), ("a", "s|1"), ("a_b", "c"),
           ("a", "b_c"), ("a_b", "a_b|1"), ("a", "../esc"), ("..", ""), ("a" * 300, "1")]  # fmt: skip
    found = [names.of_phrase(*each) for each in ids]
    assert len(set(found)) == len(ids) and found == [names.of_phrase(*each) for each in ids]
    images = ["a", "../esc", "s/1", "s|1", "s_1", "..", ".", "", "é" * 200]
    found += (own := [names.of_image(each) for each in images])
    assert len(set(own)) == len(images) and own[0] == "a"
    assert all("/" not in each and each[0] != "." and len(each.encode()) < 240 for each in found)


@pytest.mark.slow
def test_each_phrase_has_an_overlay_of_its_own(cohort, model, tmp_path):
    first, second = (json.loads(line) for line in Path(cohort.phrases).read_text().splitlines()[:2])
    queries = [each | {"phrase_id": name} for each in (first, second) for name in ("1", "s/1", "s|1", "s|1")]
    given = "".join(json.dumps(each) + "\n" for each in queries)
    result = ground(model, "--images", cohort.folder, "--overlay", tmp_path / "o", given=given)
    assert result.exit_code == 0, result.stderr
    assert len(list((tmp_path / "o").iterdir())) == 8


@pytest.mark.parametrize("flag", ["--html", "--heatmap", "-o"])
def test_a_folder_that_is_not_there_is_said_before_a_model_is_loaded(
    cohort, model, tmp_path, monkeypatch, flag
):
    monkeypatch.setattr(backends, "load", None)
    path = tmp_path / "none" / "x.safetensors"
    result = ground(model, cohort.folder / "image0.png", "spot", flag, path)
    assert (result.exit_code, f"{path}: cannot be written, its folder" in result.stderr) == (1, True)


@pytest.mark.slow
def test_a_bad_image_is_one_line_or_a_rejected_record(cohort, model, tmp_path):
    records = [json.loads(line) for line in Path(cohort.phrases).read_text().splitlines()]
    (tmp_path / "broken.png").write_bytes((cohort.folder / "image0.png").read_bytes()[:200])
    records[1]["path"] = str(tmp_path / "broken.png")
    given = "".join(json.dumps(each) + "\n" for each in records)
    failed = ground(model, "--images", cohort.folder, given=given)
    assert failed.exit_code == 1
    assert "broken.png" in failed.stderr.splitlines()[-1] and "Traceback" not in failed.stderr
    rejects = tmp_path / "rejects.jsonl"
    result = ground(model, "--images", cohort.folder, "--rejects", rejects, given=given)
    assert result.exit_code == 0
    assert len(lines(result.stdout)) == len(records) - 1
    assert [each["phrase_id"] for each in lines(rejects.read_text())] == [records[1]["phrase_id"]]


@pytest.fixture(scope="module")
def halves(cohort, tmp_path_factory) -> Path:
    """The images at half their size."""
    folder = tmp_path_factory.mktemp("halves")
    for path in cohort.folder.glob("*.png"):
        Image.open(path).resize((toy.WIDTH // 2, toy.HEIGHT // 2)).save(folder / path.name)
    return folder


@pytest.mark.slow
def test_answers_on_scaled_copies_are_in_the_pixels_that_the_records_mean(cohort, halves, model):
    sized = Path(cohort.phrases).read_text()
    bare = [json.loads(line) for line in sized.splitlines()]
    bare = "".join(
        json.dumps({k: v for k, v in e.items() if k not in ("width", "height")}) + "\n" for e in bare
    )
    table = ground(model, "--images", halves, "--output-format", "csv", given=sized).stdout.splitlines()
    assert f",{toy.WIDTH},{toy.HEIGHT}," in table[1]
    own, files = (
        np.array([b["box"] for line in lines(each.stdout) for b in line["boxes"]])
        for each in (ground(model, "--images", halves, given=given) for given in (sized, bare))
    )
    assert np.allclose(own, 2 * files, atol=0.11)  # 0.1 of a pixel of the copy is lost by rounding


@pytest.mark.slow
def test_pictures_of_scaled_copies_show_boxes_where_they_lie(cohort, halves, model, tmp_path):
    line = Path(cohort.phrases).read_text().splitlines()[0]
    drawn = []
    for number, images in enumerate((cohort.folder, halves)):
        out = ("--overlay", tmp_path / str(number), "--html", tmp_path / f"{number}.html")
        assert ground(model, "--images", images, *out, given=line).exit_code == 0
        [path] = (tmp_path / str(number)).iterdir()
        pixels = np.asarray(Image.open(path).convert("RGB"))[:320].astype(int)
        green = (pixels[..., 1] > 200) & (np.ptp(pixels, axis=2) > 100)  # the true box
        drawn.append([each.mean() for each in np.nonzero(green)])
        page = (tmp_path / f"{number}.html").read_text()
        assert f'viewBox="0 0 {toy.WIDTH} {toy.HEIGHT}"' in page
    assert np.allclose(*drawn, atol=3)


@pytest.mark.slow
def test_an_image_of_another_shape_than_its_record_says_is_refused_or_rejected(cohort, model, tmp_path):
    queries = [json.loads(line) for line in Path(cohort.phrases).read_text().splitlines()[:2]]
    queries[0] |= {"width": toy.HEIGHT, "height": toy.WIDTH}
    given = "".join(json.dumps(each) + "\n" for each in queries)
    failed = ground(model, "--images", cohort.folder, given=given)
    assert failed.exit_code == 1
    assert "image0.png: is 120 x 100 pixels, its phrase says 100 x 120" in failed.stderr.splitlines()[-1]
    result = ground(model, "--images", cohort.folder, "--rejects", tmp_path / "bad.jsonl", given=given)
    assert [each["image_id"] for each in lines(result.stdout)] == ["image1"]
    assert [each["image_id"] for each in lines((tmp_path / "bad.jsonl").read_text())] == ["image0"]


def test_a_model_that_is_none_is_one_line(tmp_path, cohort):
    result = ground(tmp_path, cohort.folder / "image0.png", "spot")
    assert result.exit_code == 1
    assert "no config.json" in result.stderr


def test_an_image_without_phrases_is_a_usage_error(model, cohort):
    assert ground(model, cohort.folder / "image0.png").exit_code == 2


def test_records_beside_an_image_are_a_usage_error(model, cohort):
    result = ground(model, cohort.folder / "image0.png", "spot", "--phrases", cohort.phrases)
    assert (result.exit_code, "--phrases names the images itself" in result.stderr) == (2, True)


def test_a_phrase_without_words_is_refused(model, cohort):
    result = ground(model, cohort.folder / "image0.png", "spot", " ")
    assert (result.exit_code, "PHRASE is empty" in result.stderr) == (2, True)
    query = json.loads(Path(cohort.phrases).read_text().splitlines()[0]) | {"text": " "}
    result = ground(model, "--images", cohort.folder, given=json.dumps(query))
    assert (result.exit_code, "<stdin>:1: text: is empty" in result.stderr) == (1, True)


def test_no_phrases_give_no_groundings(model):
    result = ground(model)
    assert (result.exit_code, result.stdout) == (0, "")


@pytest.mark.slow
@given(
    corners=st.tuples(*[st.floats(-50, 2_050)] * 4),
    width=st.integers(1, 2_000),
    height=st.integers(1, 2_000),
)  # fmt: skip
def test_a_box_always_has_an_area_inside_its_image(corners, width, height):
    box = np.array([*np.minimum(corners[:2], corners[2:]), *np.maximum(corners[:2], corners[2:])])
    x1, y1, x2, y2 = predict.inside(box, Letterbox(width, height, 160))
    assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height


def many(cohort: toy.Toy) -> str:
    """Three phrases for each of the cohort, from two patients."""
    queries = [json.loads(line) for line in Path(cohort.phrases).read_text().splitlines()]
    own = [
        each | {"phrase_id": f"{n}|{word}", "text": word, "subject_id": f"p{n % 2}"}
        for n, each in enumerate(queries)
        for word in ("bright spot", "left lung", "spot")
    ]
    return "".join(json.dumps(each) + "\n" for each in own)


@pytest.mark.slow
@pytest.mark.parametrize("kept", [0, 1, 3, 5, 12])
def test_resume_does_the_last_image_again_and_the_rest(cohort, model, tmp_path, kept, monkeypatch):
    whole = ground(model, "--images", cohort.folder, given=many(cohort)).stdout_bytes
    done = whole.splitlines(keepends=True)
    assert len(done) == 12
    (tmp_path / "out.jsonl.partial").write_bytes(b"".join([*done[:kept], b'{"phrase_id":']))
    reads, real = [], views.images.load_shown
    monkeypatch.setattr(views.images, "load_shown", lambda path: reads.append(path) or real(path))
    result = ground(
        model, "--images", cohort.folder, "--resume", "-o", tmp_path / "out.jsonl", given=many(cohort)
    )
    assert (result.exit_code, result.stderr) == (0, "")
    assert (tmp_path / "out.jsonl").read_bytes() == whole
    assert len(reads) == 4 - max(0, kept - 1) // 3, "an image that is whole is not looked at again"


OLD = {"phrase_id": "0|bright spot", "image_id": "b", "text": "bright spot"}


@pytest.mark.parametrize(
    ("settings", "option"),
    [
        ({"model": "other"}, "another model"),
        ({"coverage": 0.9}, "another --coverage"),
        ({"calibrated": True}, "another --calibration"),
        ({"min_score": 0.3}, "another --min-score"),
        ({"min_present": 0.3}, "another --min-present"),
        ({"engine": "bf16"}, "another --backend"),
    ],
)
def test_resume_does_not_mix_runs_with_other_settings(settings, option, cohort, model, tmp_path):
    before = json.dumps(OLD | {"model": grounder.name_of(model)} | settings) + "\n"
    (tmp_path / "out.jsonl").write_text(before)
    result = ground(model, "--resume", "-o", tmp_path / "out.jsonl", given=many(cohort))
    assert (result.exit_code, f"groundings of {option}" in result.stderr) == (1, True)
    assert (tmp_path / "out.jsonl").read_text() == before


@pytest.mark.slow
@pytest.mark.parametrize("flags", [["--min-score", 0.2], ["--min-present", 0.2], ["--no-calibration"]])
def test_resume_continues_with_the_same_settings_only(flags, cohort, model, tmp_path):
    out = tmp_path / "out.jsonl"
    command = [model, "--images", cohort.folder, "--resume", "-o", out]
    whole = ground(model, "--images", cohort.folder, *flags, given=many(cohort)).stdout
    out.write_text("".join(whole.splitlines(keepends=True)[:7]))
    assert ground(*command, *flags, given=many(cohort)).exit_code == 0
    assert out.read_text() == whole
    if flags != ["--no-calibration"]:  # this model has no calibration to leave out
        assert ground(*command, given=many(cohort)).exit_code == 1


def test_resume_continues_with_a_calibrated_model(cohort, model, tmp_path):
    own = Path(shutil.copytree(model, tmp_path / "calibrated"))
    curve = calibration.Curve(0.5, -1.0)
    fitted = calibration.Calibration(grounder.name_of(own), curve, curve, [0.1] * 20, 0.5, {}, "mine")
    calibration.save(own, fitted)
    command, out = [own, "--images", cohort.folder], tmp_path / "out.jsonl"
    whole = ground(*command, given=many(cohort)).stdout_bytes
    assert json.loads(whole.splitlines()[0])["calibrated"] == {"score": "mine", "present": "mine"}
    (tmp_path / "out.jsonl.partial").write_bytes(b"".join(whole.splitlines(keepends=True)[:7]))
    assert ground(*command, "--resume", "-o", out, given=many(cohort)).exit_code == 0
    assert out.read_bytes() == whole


@pytest.mark.slow
@pytest.mark.parametrize("rejecting", [False, True])
@pytest.mark.parametrize("change", ["text", "order", "fewer"])
def test_resume_with_other_phrases_is_refused(change, rejecting, cohort, model, tmp_path):
    out, queries = tmp_path / "out.jsonl", many(cohort).splitlines(keepends=True)
    out.write_text(ground(model, "--images", cohort.folder, given="".join(queries)).stdout)
    other = {
        "text": [queries[0].replace('"text": "bright spot"', '"text": "dark spot"'), *queries[1:]],
        "order": [queries[1], queries[0], *queries[2:]],
        "fewer": queries[:6],
    }[change]
    assert other != queries
    flags = ["--rejects", tmp_path / "bad"] if rejecting else []
    images = ["--images", cohort.folder]
    result = ground(model, *images, "--resume", "-o", out, *flags, given="".join(other))
    assert (result.exit_code, "groundings of other phrases (that of line " in result.stderr) == (1, True)


@pytest.mark.slow
def test_resume_passes_over_what_was_rejected(cohort, model, tmp_path):
    queries = [json.loads(line) for line in many(cohort).splitlines()]
    queries[3:3] = [queries[0] | {"path": "missing.png", "image_id": "missing"}]
    given, out = "".join(json.dumps(each) + "\n" for each in queries), tmp_path / "out.jsonl"
    flags = ["--images", cohort.folder, "--rejects", tmp_path / "bad", "-o", out]
    assert ground(model, *flags, given=given).exit_code == 0
    whole = out.read_text()
    out.write_text("".join(whole.splitlines(keepends=True)[:7]))
    assert ground(model, *flags, "--resume", given=given).exit_code == 0
    assert out.read_text() == whole and len(whole.splitlines()) == 12


@pytest.mark.slow
def test_answers_of_a_model_whose_training_leaked_say_so(cohort, tmp_path):
    network = grounder.build("small", ["bright spot"])
    grounder.save(tmp_path / "leaky", network, {"subjects": [], "leakage": True})
    result = ground(tmp_path / "leaky", cohort.folder / "image0.png", "spot")
    assert [each["leakage"] for each in lines(result.stdout)] == [True]


def test_resume_needs_a_file_of_lines(cohort, model, tmp_path):
    for flags in (["--resume"], ["--resume", "-o", tmp_path / "out.csv", "--output-format", "csv"]):
        result = ground(model, *flags, given=many(cohort))
        assert (result.exit_code, "--resume requires -o FILE" in result.stderr) == (
            2,
            True,
        )


@pytest.mark.slow
def test_the_shards_are_together_the_whole(cohort, model):
    whole = ground(model, "--images", cohort.folder, given=many(cohort)).stdout.splitlines()
    parts = [
        ground(model, "--images", cohort.folder, "--shard", f"{n}/3", given=many(cohort)) for n in (1, 2, 3)
    ]
    assert sorted(line for part in parts for line in part.stdout.splitlines()) == sorted(whole)


def merged(found: list[list[float]], scores: list[float]) -> tuple[list[list[float]], list[float]]:
    """(boxes, scores) of `answers.merged`, scores as probabilities."""
    given = np.array(scores)
    boxes, logits = predict.merged(np.array(found, dtype=float), np.log(given / (1 - given)))
    return boxes.tolist(), (1 / (1 + np.exp(-logits))).tolist()


def test_boxes_that_show_the_same_are_one_as_likely_as_any_of_them():
    boxes, scores = merged([[0, 0, 10, 10], [50, 0, 60, 10], [0, 0, 10, 14]], [0.3, 0.4, 0.2])
    assert scores == pytest.approx([0.5, 0.4])
    assert boxes == [pytest.approx([0, 0, 10, 11.6]), pytest.approx([50, 0, 60, 10])]


def test_boxes_that_overlap_little_stay_apart():
    found = [[0, 0, 10, 10], [5, 0, 15, 10], [30, 0, 40, 10]]
    boxes, scores = merged(found, [0.2, 0.7, 0.1])
    assert boxes == [pytest.approx(found[n]) for n in (1, 0, 2)]
    assert scores == pytest.approx([0.7, 0.2, 0.1])


def test_the_only_box_stays_as_it_is():
    found, logits = np.array([[1.25, 2, 30, 40]]), np.array([-0.7])
    assert all(a is b for a, b in zip(predict.merged(found, logits), (found, logits), strict=True))


corner = st.integers(0, 20)
spread = st.tuples(corner, corner, st.integers(0, 9), st.integers(0, 9), st.integers(-8, 8))


@pytest.mark.slow
@given(st.lists(spread, min_size=2, max_size=8))
def test_merging_loses_no_likelihood_and_orders_what_is_left(drawn):
    found = np.array([[x, y, x + w, y + h] for x, y, w, h, _ in drawn], dtype=float)
    logits = np.array([logit for *_, logit in drawn], dtype=float)
    boxes, merged = predict.merged(found, logits)
    assert 1 <= len(boxes) == len(merged) <= len(found) and np.isfinite(merged).all()
    assert (np.diff(merged) <= 0).all()
    expected, total = (1 / (1 + np.exp(-each)) for each in (logits, merged))
    assert total.sum() <= expected.sum() + 1e-6
    assert total.sum() == pytest.approx(expected.sum()) or total.max() >= 1 - 1e-5
    assert (boxes >= found.min(axis=0) - 1e-9).all() and (boxes <= found.max(axis=0) + 1e-9).all()
