"""Files of detectors, of COCO tools and of grounded reports against a reference of a few lines."""

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner

from medground.cli.main import cli

SIZES = [(2544, 3056), (3000, 2400)]
TRUE = [[300.0, 1500.0, 1100.0, 2300.0], [1600.0, 400.0, 2500.0, 1500.0]]
FOUND = [[320.0, 1500.0, 1100.0, 2200.0], [1600.0, 500.0, 2400.0, 1500.0]]
TEXTS = ["Right lower lobe opacity", "Small left effusion."]


def iou(a, b):
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0, wide) * max(0, high)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


EXPECTED = sum(map(iou, FOUND, TRUE)) / 2


def truth(number: int, image: int) -> dict:
    own = {"image_id": f"i{image}", "phrase_id": f"p{number}", "subject_id": f"s{image}"}
    w, h = SIZES[image]
    shape = {"path": f"images/a{image}.png", "width": w, "height": h}
    return (
        own
        | shape
        | {"text": TEXTS[number], "category": ["Opacity", "Effusion"][number], "boxes": [TRUE[number]]}
    )


@pytest.fixture
def score(tmp_path, monkeypatch):
    """The mean IoU of a file and what the run writes to stderr; the phrases are on two images or on one."""
    monkeypatch.chdir(tmp_path)

    def run(content: object, kind: str, *flags: str, images=(0, 1)) -> tuple[float, str]:
        lines = [truth(n, image) for n, image in enumerate(images)]
        Path("truth.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
        args = ["evaluate", "--truth", "truth.jsonl", "--bootstrap-samples", "100", "--input-format", kind]
        text = content if isinstance(content, str) else json.dumps(content)
        result = CliRunner().invoke(cli, [*args, *flags], input=text)
        assert result.exit_code in (0, 1) and "Traceback" not in result.stderr
        values = [json.loads(line)["value"] for line in result.stdout.splitlines()]
        return (values[0] if values else math.nan), result.stderr

    return run


def detections(number: int, labels: object, **keys: object) -> dict:
    far = [0.0, 0.0, 10.0, 10.0]
    return {"scores": [0.3, 0.8], "boxes": [far, FOUND[number]], "labels": labels} | keys


@pytest.mark.parametrize("kind", ["grounding-dino", "owl"])
def test_dictionaries_with_old_and_new_keys(score, kind):
    old = [detections(n, ["lobe opacity", ""], phrase_id=f"p{n}") for n in (0, 1)]
    new = [detections(n, [0, 0], text_labels=["a", "b"], image_id=f"i{n}") for n in (0, 1)]
    none = [{"phrase_id": f"p{n}", "output": detections(n, [0, 0], text_labels=None)} for n in (0, 1)]
    for file in (old, new, none):
        assert score(file, kind) == (pytest.approx(EXPECTED), "")
        assert score("".join(json.dumps(each) + "\n" for each in file), kind)[0] == pytest.approx(EXPECTED)
    names = [each | {"image_id": f"/data/images/a{n}.png"} for n, each in enumerate(new)]
    assert score(names, kind) == (pytest.approx(EXPECTED), "")


def shares(box, width, height):
    return [each / side for each, side in zip(box, (width, height) * 2, strict=True)]


def padded(box, width, height):
    side = max(width, height)
    shift = ((side - width) / 2, (side - height) / 2) * 2
    return [(each + away) / side for each, away in zip(box, shift, strict=True)]


def swapped(box, width, height):
    return [each * other for each, other in zip(shares(box, width, height), (height, width) * 2, strict=True)]


TWINS = {  # a detector's file in another frame: the frame that is named, and the error or warning
    "without target_sizes": (shares, "normalised", "every box is within one pixel"),
    "of the padded image": (padded, "padded:1", "every box is within one pixel"),
    "in thousandths": (lambda *a: [1e3 * x for x in shares(*a)], "stretch:1000x1000", "are within 0 to 1000"),
    "of a square input": (lambda *a: [960 * x for x in padded(*a)], "padded:1000", "are within 0 to 1000"),
    "target_sizes of (width, height)": (swapped, "swapped", "fit the truth better"),
    "y first": (lambda box, *_: [box[1], box[0], box[3], box[2]], "yx:original", "fit the truth better"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["grounding-dino", "owl"])
@pytest.mark.parametrize("twin", TWINS)
def test_a_detector_s_file_in_a_wrong_frame_names_the_right_one(score, twin, kind):
    of, named, why = TWINS[twin]
    file = [
        {"phrase_id": f"p{n}", "scores": [0.5], "labels": [0], "boxes": [of(FOUND[n], *SIZES[n])]}
        for n in (0, 1)
    ]
    value, stderr = score(file, kind)
    assert why in stderr and f"--coordinates {named}" in stderr and not value > 0.5
    if twin != "of a square input":  # 960 is not among the frames that models use
        assert score(file, kind, "--coordinates", named)[0] == pytest.approx(EXPECTED)


def test_words_of_detections_find_the_phrase_of_an_image(score):
    both = {"image_id": "i0", "scores": [0.9, 0.8], "boxes": FOUND, "labels": [0, 1]}
    for words in (["right lower lobe opacity", "effusion"], ["lobe opacity", "small left effusion"]):
        assert score([both | {"text_labels": words}], "owl", images=(0, 0))[0] == pytest.approx(EXPECTED)
    assert (
        "[0]: image_id: more than one phrase"
        in score([both | {"text_labels": ["", "x"]}], "owl", images=(0, 0))[1]
    )
    other = [detections(0, ["effusion", "opacity"], image_id="i0")]
    assert "left out 1 predictions of findings that no phrase of their image has" in score(other, "owl")[1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"scores": [1]}, "[0]: boxes: this key is missing"),
        ({"scores": [1, 2], "boxes": [FOUND[0]]}, "[0]: scores: expected one for each of the boxes"),
        ({"scores": [1], "boxes": [FOUND[0]], "labels": []}, "[0]: labels: expected one for each of the"),
        ({"scores": [1], "boxes": [[1, 2, 3]]}, "[0]: boxes[0]: "),
        ({"scores": [1], "boxes": [["1", 2, 3, 4]]}, "[0]: boxes[0][0]: expected float, got str"),
        ({"output": {"scores": [1], "boxes": [3]}}, "[0]: output.boxes[0]: "),
        ({"output": [1]}, "[0]: output: "),
    ],
)  # fmt: skip
def test_dictionaries_of_another_shape_are_bad_lines(score, line, message):
    assert message in score([line | {"phrase_id": "p0"}], "grounding-dino")[1]
    good = detections(1, [0, 0], phrase_id="p1")
    assert (
        "rejected <stdin>: [0]: "
        in score([line | {"phrase_id": "p0"}, good], "owl", "--rejects", "bad.jsonl")[1]
    )
    assert json.loads(Path("bad.jsonl").read_text()) == line | {"phrase_id": "p0"}


def test_a_second_line_of_an_image_or_phrase_is_refused(score):
    same = detections(0, [0, 0], phrase_id="p0")
    assert "[1]: phrase_id: the second line" in score([same, same], "owl")[1]
    same = detections(0, [0, 0], image_id="i0")
    assert "[1]: image_id: the second line with this image" in score([same, same], "owl")[1]
    assert "[0]: phrase_id: this key is missing" in score([detections(0, [0, 0])], "owl")[1]


# --- COCO of any tool -------------------------------------------------------------------------------------


def coco(**changes: object) -> dict:
    images = [{"id": n, "file_name": f"elsewhere/a{n}.jpg"} for n in (0, 1)]
    results = [
        {"id": n, "image_id": n, "category_id": n, "score": 0.5, "bbox": [a, b, c - a, d - b]}
        for n, (a, b, c, d) in enumerate(FOUND)
    ]
    names = [{"id": 0, "name": "opacity"}, {"id": 1, "name": "effusion"}]
    return {"images": images, "annotations": results, "categories": names} | changes


def test_numbers_of_images_are_joined_by_file_name(score):
    assert score(coco(), "coco") == (pytest.approx(EXPECTED), "")
    assert score(coco(categories=[{"id": 0, "name": "object"}]), "coco") == (pytest.approx(EXPECTED), "")


def test_the_category_finds_the_phrase_of_an_image(score):
    one = coco()
    one["annotations"][1]["image_id"] = 0
    assert score(one, "coco", images=(0, 0)) == (pytest.approx(EXPECTED), "")
    one["annotations"][1]["category_id"] = 0
    one["annotations"].append(one["annotations"][0] | {"id": 9, "image_id": 1})
    assert "left out 1 predictions of findings" in score(one, "coco")[1]


def test_a_bare_list_of_results_gets_its_images_from_another_file(score):
    whole = coco()
    Path("instances.json").write_text(json.dumps(whole | {"annotations": []}))
    flags = ("--coco-images", "instances.json")
    assert score(whole["annotations"], "coco", *flags) == (pytest.approx(EXPECTED), "")
    Path("instances.json").write_text("[]")
    assert "instances.json: expected an object with images" in score(whole["annotations"], "coco", *flags)[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": [1, 2, "3", 4]}, "[1]: bbox[2]: expected a number"),
        ({"bbox": [1, 2, 3]}, "[1]: bbox: expected bbox [x, y, w, h]"),
        ({"bbox": None}, "[1]: bbox: expected"),
        ({"score": "high"}, "[1]: score: expected a number"),
        ({"image_id": 9}, "[1]: image_id: no image of the file has this id"),
        ({"image_id": [1]}, "[1]: image_id: no image of the file has this id"),
        ({"image_id": None}, "[1]: image_id: this key is missing"),
    ],
)
def test_faults_of_coco_have_their_place(score, change, message):
    bad = coco()
    bad["annotations"][1] |= change
    assert message in score(bad, "coco")[1]
    assert score(bad, "coco", "--rejects", "bad.jsonl")[0] > 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (coco(images=[{"file_name": "a"}]), "images: expected objects with id and file_name"),
        (coco(annotations={}), "expected a list of results"),
        ("[", "not JSON"),
        ("", "not JSON"),
        ([[1]], "[0]: expected an object with bbox and score"),
        ([{"image_id": 7, "bbox": [1, 2, 3, 4], "score": 1}], "a number needs --coco-images"),
    ],
)
def test_files_that_are_no_coco_are_one_line(score, content, message):
    assert message in score(content, "coco")[1]


# --- grounded reports -------------------------------------------------------------------------------------


def radfact(number: int) -> dict:
    keys = ("x_min", "y_min", "x_max", "y_max")
    shares = [x / s for x, s in zip(FOUND[number], SIZES[number] * 2, strict=True)]
    sentence = {"text": TEXTS[number].lower(), "boxes": [dict(zip(keys, shares, strict=True))]}
    return {
        "example_id": f"i{number}",
        "prediction": [{"text": "No pneumothorax.", "boxes": None}, sentence, {"text": "Clear."}],
        "target": [],
    }


def test_sentences_of_radfact_are_matched_by_their_words(score):
    assert score([radfact(0), radfact(1)], "radfact") == (pytest.approx(EXPECTED), "")
    other = radfact(0)
    other["prediction"][1]["text"] = "Left opacity."
    assert "left out 1 predictions of findings that no phrase" in score([other, radfact(1)], "radfact")[1]


def test_a_twin_of_radfact_in_pixels_is_named(score):
    bad = radfact(0)
    bad["prediction"][1]["boxes"] = [{"x_min": 320, "y_min": 1500, "x_max": 1100, "y_max": 2200}]
    _, stderr = score([bad, radfact(1)], "radfact")
    assert "[0]: prediction[1].box: lies beyond the frame normalised: is it --coordinates original?" in stderr


@pytest.mark.parametrize(
    ("sentence", "message"),
    [
        ({"text": "x", "boxes": []}, "[0]: prediction[0].boxes: expected null or boxes"),
        ({"text": "x", "boxes": [{"x_min": 0}]}, "[0]: prediction[0].boxes[0].y_min: this key is missing"),
        ({"text": "x", "boxes": [{"x_min": "0"}]}, "[0]: prediction[0].boxes[0].x_min: expected float"),
        ("x", "[0]: prediction[0]: "),
    ],
)  # fmt: skip
def test_faults_of_radfact_have_their_place(score, sentence, message):
    assert message in score([{"example_id": "i0", "prediction": [sentence]}], "radfact")[1]


def sample(number: int, **keys: object) -> dict:
    box = [int(x / s * 100) for x, s in zip(FOUND[number], SIZES[number] * 2, strict=True)]
    question = f"Please locate the following phrase: {TEXTS[number]}"
    path = [f"mimic/files/a{number}.jpg"]
    return {"image_path": path, "question": question, "candidate_box": [box], "slice": 0.5} | keys


def test_items_that_come_twice_are_refused(score):
    assert "[1]: example_id: the second item with this id" in score([radfact(0), radfact(0)], "radfact")[1]
    assert "[1]: phrase_id: the second line with this phrase" in score([sample(0), sample(0)], "chexbench")[1]
    twice = coco(images=[{"id": 0, "file_name": f"a{n}.png"} for n in (0, 1)])
    assert "images[1]: id: the same as of images[0]" in score(twice, "coco")[1]


def test_samples_of_chexbench_are_matched_by_image_and_question(score):
    boxes = [
        [x / 100 * s for x, s in zip(sample(n)["candidate_box"][0], SIZES[n] * 2, strict=True)]
        for n in (0, 1)
    ]
    expected = sum(map(iou, boxes, TRUE)) / 2
    assert score([sample(0), sample(1)], "chexbench") == (pytest.approx(expected), "")
    x1, y1, x2, y2 = sample(0)["candidate_box"][0]
    text = sample(0, candidate_box=None, output=f"<|box|> ({x1},{y1}),({x2},{y2}) <|/box|>")
    assert score([text, sample(1)], "chexbench") == (pytest.approx(expected), "")
    same = [sample(0), sample(1, candidate_box=sample(0)["candidate_box"])]
    assert "1 boxes are those of the sample before" in score(same, "chexbench")[1]
    twin = [sample(n, candidate_box=[[10 * x for x in sample(n)["candidate_box"][0]]]) for n in (0, 1)]
    assert "is it --coordinates stretch:1000x1000?" in score(twin, "chexbench")[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"candidate_box": None}, "[0]: candidate_box: this key is missing"),
        ({"candidate_box": [1, 2]}, "[0]: candidate_box: expected lists of four numbers"),
        ({"image_path": []}, "[0]: image_path: expected the path of an image"),
        ({"image_path": "x"}, "[0]: image_path: expected array, got str"),
    ],
)
def test_faults_of_chexbench_have_their_place(score, change, message):
    assert message in score([sample(0, **change), sample(1)], "chexbench")[1]
