"""A file of each model against a reference of a few lines, and the same file in a wrong frame."""

import json
import math
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from medground.cli.main import cli

SIZES = [(2544, 3056), (3000, 2400), (1200, 2000)]
TRUE = [[300.0, 1500.0, 1100.0, 2300.0], [1600.0, 400.0, 2900.0, 1500.0], [100.0, 900.0, 500.0, 1900.0]]


def numbers(text: str) -> list[float]:
    return [float(each) for each in re.findall(r"(?<![\w-])-?\d+(?:\.\d+)?(?=[\],)>])", text)]


def smart(width: int, height: int) -> tuple[int, int]:
    return round(width / 28) * 28, round(height / 28) * 28


def plain(found, width, height, units):
    return [each / units * side for each, side in zip(found, (width, height) * 2, strict=True)]


def turned(found):
    return [found[1], found[0], found[3], found[2]]


def padded(found, width, height, units):
    side = max(width, height)
    shift = ((side - width) / 2, (side - height) / 2) * 2
    return [each / units * side - away for each, away in zip(found, shift, strict=True)]


def cropped(found, width, height):
    side = min(width, height)
    shift = ((width - side) / 2, (height - side) / 2) * 2
    return [each * side + away for each, away in zip(found, shift, strict=True)]


def resized(found, width, height):
    wide, high = smart(width, height)
    return [
        each * side / other
        for each, side, other in zip(found, (width, height) * 2, (wide, high) * 2, strict=True)
    ]


def say(box, scale, form):
    """Return the text of a box whose numbers are the pixels times `scale` (across, down)."""
    x1, y1, x2, y2 = (int(each * factor) for each, factor in zip(box, scale * 2, strict=True))
    return form.format(x1=x1, y1=y1, x2=x2, y2=y2)


JSON = '```json\n[{{"bbox_2d": [{x1}, {y1}, {x2}, {y2}], "label": "opacity"}}]\n```'
LOC = "<loc{y1:04}><loc{x1:04}><loc{y2:04}><loc{x2:04}> opacity"
MODELS = {  # format: (form of the text, units or scale, reference of a few lines)
    "qwen-vl": (JSON, 1000, lambda t, w, h: plain(numbers(t), w, h, 1000)),
    "qwen2.5-vl": (JSON, None, lambda t, w, h: resized(numbers(t), w, h)),
    "gemini": (
        '[{{"box_2d": [{y1}, {x1}, {y2}, {x2}]}}]', 1000,
        lambda t, w, h: plain(turned(numbers(t)), w, h, 1000),
    ),
    "paligemma": (
        LOC, 1024, lambda t, w, h: plain(turned([int(n) for n in re.findall(r"\d{4}", t)]), w, h, 1024)
    ),
    "florence-2": (
        "opacity<loc_{x1}><loc_{y1}><loc_{x2}><loc_{y2}>", 1000,
        lambda t, w, h: plain([int(n) + 0.5 for n in re.findall(r"\d+", t)], w, h, 1000),
    ),
    "deepseek-vl2": (
        "<|ref|>opacity<|/ref|><|det|>[[{x1}, {y1}, {x2}, {y2}]]<|/det|>", 999,
        lambda t, w, h: plain(numbers(t), w, h, 999),
    ),
    "chexagent-2": (
        "<|ref|> opacity <|/ref|> <|box|> ({x1},{y1}),({x2},{y2}) <|/box|>", 100,
        lambda t, w, h: plain(numbers(t), w, h, 100),
    ),
}  # fmt: skip


def iou(a, b):
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0, wide) * max(0, high)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


@pytest.fixture
def score(tmp_path, monkeypatch):
    """The value of the mean IoU of a file, and what the run writes to stderr."""
    monkeypatch.chdir(tmp_path)
    truth = [
        {"image_id": f"i{n}", "phrase_id": f"p{n}", "subject_id": f"s{n}", "path": f"x/i{n}.png"}
        | {"width": w, "height": h, "text": "opacity", "boxes": [TRUE[n]]}
        for n, (w, h) in enumerate(SIZES)
    ]
    Path("truth.jsonl").write_text("".join(json.dumps(each) + "\n" for each in truth))

    def run(content: object, kind: str, *flags: str) -> tuple[float, str]:
        text = content if isinstance(content, str) else "".join(json.dumps(each) + "\n" for each in content)
        args = ["evaluate", "--truth", "truth.jsonl", "--bootstrap-samples", "100", "--input-format", kind]
        result = CliRunner().invoke(cli, [*args, *flags], input=text)
        assert result.exit_code in (0, 1) and "Traceback" not in result.stderr
        values = [json.loads(line)["value"] for line in result.stdout.splitlines()]
        return (values[0] if values else math.nan), result.stderr

    return run


def said(outputs):
    return [{"phrase_id": f"p{n}", "output": each} for n, each in enumerate(outputs)]


def outputs(kind: str, units: int | None = None) -> list[str]:
    form, own, _ = MODELS[kind]
    units = units or own
    scales = [
        (units / w, units / h) if units else tuple(a / b for a, b in zip(smart(w, h), (w, h), strict=True))
        for w, h in SIZES
    ]
    return [say(box, scale, form) for box, scale in zip(TRUE, scales, strict=True)]


@pytest.mark.parametrize("kind", MODELS)
def test_a_file_of_each_model_equals_its_reference(score, kind):
    made = outputs(kind)
    reference = MODELS[kind][2]
    expected = [iou(reference(t, *size), box) for t, size, box in zip(made, SIZES, TRUE, strict=True)]
    value, stderr = score(said(made), kind)
    assert value == pytest.approx(sum(expected) / 3, abs=1e-9) and value > 0.9 and stderr == ""
    assert score(json.dumps(said(made)), kind) == (value, "")  # one JSON list
    assert score([{"image_id": f"i{n}", "output": each} for n, each in enumerate(made)], kind)[0] == value


TWINS = {  # the format: the units that its numbers have in the twin, and what the warning names
    "qwen-vl": (100, "stretch:100x100"),
    "qwen2.5-vl": (1000, "stretch:1000x1000"),
    "gemini": (100, "stretch:100x100"),
    "paligemma": (100, "stretch:100x100"),
    "florence-2": (100, "stretch:100x100"),
    "deepseek-vl2": (100, "stretch:100x100"),
    "chexagent-2": (1000, "beyond the frame stretch:100x100: is it --coordinates stretch:1000x1000?"),
}


@pytest.mark.parametrize("kind", MODELS)
def test_its_twin_in_a_wrong_frame_names_the_right_one(score, kind):
    units, named = TWINS[kind]
    value, stderr = score(said(outputs(kind, units)), kind)
    assert named in stderr and not value > 0.5


def test_the_processor_of_florence_2_gives_pixels(score):
    found = [{"<CAPTION_TO_PHRASE_GROUNDING>": {"bboxes": [box], "labels": ["opacity"]}} for box in TRUE]
    assert score(said(found), "florence-2") == (1, "")
    assert score(said(map(str, found)), "florence-2") == (1, "")
    shares = [
        {"<OD>": {"bboxes": [[x / s for x, s in zip(box, (w, h) * 2, strict=True)]], "labels": ["a"]}}
        for box, (w, h) in zip(TRUE, SIZES, strict=True)
    ]
    assert "--coordinates normalised" in score(said(shares), "florence-2")[1]


@pytest.mark.parametrize(("kind", "units"), [("llava", 1), ("medgemma", 1000)])
def test_fractions_of_the_padded_square(score, kind, units):
    made = []
    for box, (w, h) in zip(TRUE, SIZES, strict=True):
        side = max(w, h)
        there = [
            round((x + away) * units / side, 3)
            for x, away in zip(box, ((side - w) / 2, (side - h) / 2) * 2, strict=True)
        ]
        made.append(str(there) if kind == "llava" else json.dumps([{"box_2d": turned(there)}]))
    order = turned if kind == "medgemma" else list
    expected = [
        iou(padded(order(numbers(t)), w, h, units), box)
        for t, (w, h), box in zip(made, SIZES, TRUE, strict=True)
    ]
    value, stderr = score(said(made), kind)
    assert value == pytest.approx(sum(expected) / 3, abs=1e-9) and value > 0.98 and stderr == ""


LLAVA = {  # the units of the numbers of a file that is read as llava: what the run names
    "shares of the image": (
        lambda b, w, h: shares(b, w, h, 1),
        "fit the truth better with --coordinates normalised",
    ),
    "hundredths": (
        lambda b, w, h: shares(b, w, h, 100),
        "is it --coordinates padded:100 or stretch:100x100?",
    ),
    "thousandths": (
        lambda b, w, h: shares(b, w, h, 1000),
        "is it --coordinates padded:1000 or stretch:1000x1000?",
    ),
    "pixels": (lambda b, w, h: b, "is it --coordinates original?"),
    "y first": (lambda b, w, h: turned(in_square(b, w, h)), "better with --coordinates yx:padded:1"),
}


def shares(box, width, height, units):
    return [each * units / side for each, side in zip(box, (width, height) * 2, strict=True)]


def in_square(box, width, height):
    side = max(width, height)
    shift = ((side - width) / 2, (side - height) / 2) * 2
    return [(each + away) / side for each, away in zip(box, shift, strict=True)]


@pytest.mark.parametrize("units", LLAVA)
def test_a_twin_of_llava_in_a_wrong_frame_names_the_right_one(score, units):
    of, named = LLAVA[units]
    made = [str([round(x, 4) for x in of(box, *size)]) for box, size in zip(TRUE, SIZES, strict=True)]
    value, stderr = score(said(made), "llava")
    assert named in stderr and not value > 0.75


@pytest.mark.parametrize("kind", ["radvlm", "gemini"])
def test_a_file_of_padded_squares_in_another_format_is_named(score, kind):
    units, order = (1, list) if kind == "radvlm" else (1000, turned)
    made = [
        [round(x * units, 3) for x in order(in_square(box, *size))]
        for box, size in zip(TRUE, SIZES, strict=True)
    ]
    texts = map(str, made) if kind == "radvlm" else (json.dumps([{"box_2d": each}]) for each in made)
    value, stderr = score(said(texts), kind)
    assert f"better with --coordinates padded:{units} " in stderr
    assert value < 0.75


def test_maira_2_plain_and_adjusted(score):
    made = ["<box><x10><y40><x39><y69></box>"] * 3
    expected = [
        iou(cropped([0.105, 0.405, 0.395, 0.695], *size), b) for size, b in zip(SIZES, TRUE, strict=True)
    ]
    assert score(said(made), "maira-2")[0] == pytest.approx(sum(expected) / 3, abs=1e-9)
    shares = [
        [["opacity", [[x / s for x, s in zip(box, (w, h) * 2, strict=True)]]]]
        for box, (w, h) in zip(TRUE, SIZES, strict=True)
    ]
    assert score(said(shares), "maira-2", "--coordinates", "normalised") == (pytest.approx(1), "")
    assert "--coordinates normalised" in score(said(shares), "maira-2")[1]


def test_each_line_may_have_its_own_frame(score):
    lines = said(outputs("qwen2.5-vl", 1000))
    for line, (w, h) in zip(lines[:2], SIZES, strict=False):
        line["output"] = say(TRUE[int(line["phrase_id"][1])], (896 / w, 1092 / h), JSON)
        line["coordinates"] = "stretch:896x1092"
    lines[2]["coordinates"] = "stretch:1000x1000"
    value, stderr = score(lines, "qwen2.5-vl")
    assert value > 0.98 and stderr == ""
    assert score(lines, "qwen2.5-vl", "--coordinates", "original") == (value, "")
    lines[1]["coordinates"] = "stretch:896"
    assert "<stdin>:2: coordinates: not a frame" in score(lines, "qwen2.5-vl")[1]


@pytest.mark.parametrize("names", [("input_width", "input_height"), ("resized_width", "resized_height")])
def test_a_line_may_state_the_size_of_the_resized_image(score, names):
    lines = said(outputs("qwen-vl"))
    for line, (w, h) in zip(lines, SIZES, strict=True):
        line["output"] = say(TRUE[int(line["phrase_id"][1])], (700 / w, 900 / h), JSON)
        line |= dict(zip(names, (700, 900), strict=True))
    value, stderr = score(lines, "qwen2.5-vl")
    assert value > 0.97 and stderr == ""


def test_rows_of_a_table_and_our_records_may_have_their_own_frame(score):
    shares = [
        [x / s for x, s in zip(box, (w, h) * 2, strict=True)] for box, (w, h) in zip(TRUE, SIZES, strict=True)
    ]
    rows = [",".join(map(str, ["p" + str(n), *each, "normalised"])) for n, each in enumerate(shares)]
    table = "phrase_id,x1,y1,x2,y2,coordinates\n" + "\n".join(rows) + "\n"
    assert score(table, "csv") == (pytest.approx(1), "")
    ours = [
        {
            "image_id": f"i{n}",
            "phrase_id": f"p{n}",
            "text": "",
            "present": 1,
            "model": "",
            "coordinates": "normalised",
        }
        | {"boxes": [{"box": each, "score": 1}]}
        for n, each in enumerate(shares)
    ]
    assert score(ours, "jsonl") == (pytest.approx(1), "")


def test_lists_that_are_broken_off_are_counted(score):
    made = outputs("deepseek-vl2")
    made[0] += "<|ref|>more<|/ref|><|det|>[[220, "
    made[1] = "<|det|>[[470,]]<|/det|>"
    value, stderr = score(said(made), "deepseek-vl2")
    assert value > 0.6 and "left out 2 lists that are broken off or do not have four numbers" in stderr


# --- wrong frames of plain numbers ------------------------------------------------------------------------


def table(units: float | None) -> str:
    rows = [
        ",".join(map(str, ["p" + str(n), *(x * units / s for x, s in zip(box, (w, h) * 2, strict=True))]))
        for n, (box, (w, h)) in enumerate(zip(TRUE, SIZES, strict=True))
    ]
    return "phrase_id,x1,y1,x2,y2\n" + "\n".join(rows) + "\n"


@pytest.mark.parametrize(
    ("units", "named"), [(1, "normalised"), (100, "100x100"), (1000, "1000x1000"), (1024, "1024x1024")]
)
def test_numbers_that_fit_a_smaller_frame_name_it(score, units, named):
    value, stderr = score(table(units), "csv")
    assert f"{named}" in stderr and not value > 0.5


def test_pixels_of_larger_images_name_what_they_can_be(score):
    rows = ["p" + ",".join(map(str, [n, *(x * 4 for x in box)])) for n, box in enumerate(TRUE)]
    _, stderr = score("phrase_id,x1,y1,x2,y2\n" + "\n".join(rows), "csv")
    assert (
        "3 of 3 boxes lie outside their images: is it --coordinates stretch:WxH of larger images?" in stderr
    )


def test_x_and_y_that_are_changed_are_named(score):
    rows = ["p" + ",".join(map(str, [n, *turned(box)])) for n, box in enumerate(TRUE)]
    text = "phrase_id,x1,y1,x2,y2\n" + "\n".join(rows)
    assert "--coordinates yx:original" in score(text, "csv")[1]
    assert score(text, "csv", "--coordinates", "yx:original") == (1, "")


def test_right_boxes_that_are_small_are_not_suspected(score):
    rows = ["p0,300,1500,1100,2300", "p1,1600,400,2900,1500", "p2,90,900,500,1800"]
    assert score("phrase_id,x1,y1,x2,y2\n" + "\n".join(rows), "csv")[1] == ""
    assert "no prediction for 2" in score("phrase_id,x1,y1,x2,y2\np2,100,900,500,1000", "csv")[1]
    assert "is it" not in score("phrase_id,x1,y1,x2,y2\np2,100,900,500,1000", "csv")[1]
