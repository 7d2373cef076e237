"""Files as public scripts of other makers write them: keys, nesting and order, with boxes of our own."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from medground.cli.main import cli

SIZES = [(2544, 3056), (3000, 2400)]
TRUE = [[300.0, 1500.0, 1100.0, 2300.0], [1600.0, 400.0, 2500.0, 1500.0]]
TEXTS = ["Right lower lobe opacity", "Small left effusion"]
NAMES = ["02aa804e-bde0afdd", "f35196bb-08ec18cd"]


def truth(number: int) -> dict:
    width, height = SIZES[number]
    own = {"image_id": NAMES[number], "phrase_id": f"{NAMES[number]}|0", "subject_id": f"s{number}"}
    place = {"path": f"files/p10/{NAMES[number]}.jpg", "width": width, "height": height}
    return own | place | {"text": TEXTS[number], "category": None, "boxes": [TRUE[number]]}


def units(number: int, across: float, down: float) -> list[float]:
    """The true box in an image of this size."""
    width, height = SIZES[number]
    return [v / s * t for v, s, t in zip(TRUE[number], (width, height) * 2, (across, down) * 2, strict=True)]


def whole(number: int, side: int) -> list[int]:
    return [round(each) for each in units(number, side, side)]


def padded(number: int) -> list[int]:
    """The true box in thousandths of the image padded to a square."""
    width, height = SIZES[number]
    side = max(width, height)
    shift = ((side - width) / 2, (side - height) / 2) * 2
    return [round((v + s) / side * 1000) for v, s in zip(TRUE[number], shift, strict=True)]


def turned(box: list) -> list:
    return [box[1], box[0], box[3], box[2]]


def fenced(value: object) -> str:
    return f"```json\n{json.dumps(value)}\n```"


def qwen(number: int) -> str:
    return fenced([{"bbox_2d": whole(number, 1000), "label": TEXTS[number]}])


def center(number: int) -> list[float]:
    x1, y1, x2, y2 = units(number, 1, 1)
    return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]


def corners(number: int) -> dict:
    return dict(zip(("xmin", "ymin", "xmax", "ymax"), map(round, TRUE[number]), strict=True))


def path(number: int) -> str:
    return f"/data/mimic/files/p10/{NAMES[number]}.jpg"


def chat(text: str) -> dict:
    """An answer of a server with the interface of OpenAI, such as vLLM's."""
    message = {"role": "assistant", "content": text}
    return {"id": "chatcmpl-1", "object": "chat.completion", "choices": [{"index": 0, "message": message}]}


def batch(number: int) -> dict:
    body = {"status_code": 200, "request_id": "r", "body": chat(qwen(number))}
    return {"id": f"batch_{number}", "custom_id": f"{NAMES[number]}|0", "response": body, "error": None}


def swift(number: int) -> dict:
    messages = [
        {"role": "user", "content": f"<image>Locate {TEXTS[number]}."},
        {"role": "assistant", "content": qwen(number)},
    ]
    truth = {"ref": [TEXTS[number]], "bbox": [[1, 2, 3, 4]]}
    images = [{"bytes": None, "path": path(number)}]
    return {"response": qwen(number), "labels": "[1, 2, 3, 4]", "messages": messages} | {
        "images": images,
        "objects": truth,
    }


def radvlm(number: int) -> dict:
    return {
        "output": f"The {TEXTS[number].lower()} is at {[round(v, 3) for v in units(number, 1, 1)]}.",
        "instr": f"Where is the {TEXTS[number].lower()}?",
        "answer": "It is at [0.0, 0.0, 0.1, 0.1].",
        "idx": number,
        "img_path": path(number),
        "label": TEXTS[number],
        "boxes": [[0.0, 0.0, 0.1, 0.1]],
    }


def thinking(number: int) -> str:
    trace = "<unused94>thought\nAn example is [{'box_2d': [10, 20, 30, 40]}].<unused95>"
    boxes = [{"box_2d": turned(padded(number)), "label": TEXTS[number].lower()}]
    return f"{trace}The finding is basal.\n\nFinal Answer: {fenced(boxes)}"


def vertex(number: int) -> dict:
    text = fenced([{"box_2d": turned(whole(number, 1000)), "label": "x", "mask": "data:image/png;base64,AA"}])
    parts = [{"text": "I look. [1, 2, 3, 4]", "thought": True}, {"text": text}]
    return {"key": f"{NAMES[number]}|0"} | {
        "response": {"candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": "STOP"}]}
    }


def medrax(number: int) -> dict:
    """The square that MAIRA-2 sees is the central crop."""
    width, height = SIZES[number]
    side = min(width, height)
    shift = ((width - side) / 2, (height - side) / 2) * 2
    crop = [(v - s) / side for v, s in zip(TRUE[number], shift, strict=True)]
    boxes = {"model_coordinates": [crop], "image_coordinates": [units(number, 1, 1)]}
    found = [{"phrase": TEXTS[number], "bounding_boxes": boxes}]
    return {"image_path": path(number), "output": {"predictions": found, "visualization_path": "t.png"}}


def sam(number: int) -> dict:
    width, height = SIZES[number]
    item = {"class_name": TEXTS[number].lower(), "bbox": TRUE[number], "score": 0.7}
    far = {"class_name": TEXTS[number].lower(), "bbox": [0, 0, 9, 9], "score": 0.2}
    shape = {"box_format": "xyxy", "img_width": width, "img_height": height}
    mask = {"segmentation": {"size": [height, width], "counts": "x"}}
    return {"image_path": path(number), "annotations": [far | mask, item | mask]} | shape


def florence(number: int) -> dict:
    found = {"bboxes": [TRUE[number]], "labels": [TEXTS[number]]}
    return {"image": path(number), "result": {"<CAPTION_TO_PHRASE_GROUNDING>": found}}


def open_vocabulary(number: int) -> dict:
    found = {"bboxes": [TRUE[number]], "bboxes_labels": ["x"], "polygons": [], "polygons_labels": []}
    return {"image": path(number), "response": {"<OPEN_VOCABULARY_DETECTION>": found}}


def dino(number: int) -> dict:
    return {"boxes": [center(number)], "logits": [0.6], "phrases": [TEXTS[number].lower()]}


LLAVA = [
    {"question_id": f"{NAMES[n]}|0", "prompt": TEXTS[n], "text": str([round(v / 1000, 3) for v in padded(n)])}
    | {"answer_id": "a", "model_id": "llava-v1.5-7b", "metadata": {}}
    for n in (0, 1)
]
ROWS = [
    {"image": path(n), "score": score, "label": TEXTS[n], "box": box}
    for n in (0, 1)
    for score, box in ((0.9, corners(n)), (0.1, {"xmin": 0, "ymin": 0, "xmax": 9, "ymax": 9}))
]
FILES: dict[str, tuple[str, object, tuple[str, ...]]] = {
    "batch of a server": ("qwen-vl", [batch(n) for n in (0, 1)], ()),
    "answers of a server": ("qwen-vl", [{"image": path(n)} | chat(qwen(n)) for n in (0, 1)], ()),
    "ms-swift": ("qwen-vl", [swift(n) for n in (0, 1)], ()),
    "text by id": ("qwen-vl", {f"{NAMES[n]}|0": qwen(n) for n in (0, 1)}, ()),
    "text by image": ("qwen-vl", {f"{NAMES[n]}.jpg": [qwen(n)] for n in (0, 1)}, ()),
    "results under a key": (
        "qwen-vl",
        {"model": "q", "results": [{"image_path": path(n), "prediction": qwen(n)} for n in (0, 1)]},
        (),
    ),
    "vLLM": (
        "qwen-vl",
        [{"image": path(n), "prompt": "x", "outputs": [{"text": qwen(n), "index": 0}]} for n in (0, 1)],
        (),
    ),
    "tags of InternVL": (
        "qwen-vl",
        [{"id": f"{NAMES[n]}|0", "answer": f"<ref>x</ref><box>[{whole(n, 1000)}]</box>"} for n in (0, 1)],
        (),
    ),
    "RadVLM": ("radvlm", [radvlm(n) for n in (0, 1)], ()),
    "LLaVA": ("llava", LLAVA, ()),
    "MedGemma with a trace": (
        "medgemma",
        [{"image_id": NAMES[n], "response": thinking(n)} for n in (0, 1)],
        (),
    ),
    "Gemini's batch": ("gemini", [vertex(n) for n in (0, 1)], ()),
    "MedRAX": ("maira-2", [medrax(n) for n in (0, 1)], ()),
    "MAIRA-2 in RadVLM": (
        "maira-2",
        [radvlm(n) | {"output": str([round(v, 2) for v in units(n, 1, 1)])} for n in (0, 1)],
        ("--coordinates", "normalised"),
    ),
    "Florence-2 tasks": ("florence-2", [florence(n) for n in (0, 1)], ()),
    "Florence-2 words": ("florence-2", [open_vocabulary(n) for n in (0, 1)], ()),
    "PaliGemma": (
        "paligemma",
        [
            {"image": f"{NAMES[n]}.jpg", "prefix": "detect x", "suffix": ""}
            | {"prediction": "".join(f"<loc{v:04d}>" for v in turned(whole(n, 1024))) + " x"}
            for n in (0, 1)
        ],
        (),
    ),
    "pipeline, a row per box": ("owl", ROWS, ()),
    "pipeline, a list per image": (
        "owl",
        [
            {"image": path(n), "detections": [{k: r[k] for k in ("score", "label", "box")}]}
            for n, r in ((0, ROWS[0]), (1, ROWS[2]))
        ],
        (),
    ),
    "pipeline by image": (
        "owl",
        {
            f"{NAMES[n]}.jpg": [{k: r[k] for k in ("score", "label", "box")}]
            for n, r in ((0, ROWS[0]), (1, ROWS[2]))
        },
        (),
    ),
    "Grounded SAM 2": ("grounding-dino", [sam(n) for n in (0, 1)], ()),
    "mmdetection": (
        "grounding-dino",
        {f"{NAMES[n]}.jpg": {"labels": [0], "scores": [0.8], "bboxes": [TRUE[n]]} for n in (0, 1)},
        (),
    ),
    "IDEA's Grounding DINO": (
        "grounding-dino",
        [{"image_path": path(n)} | dino(n) for n in (0, 1)],
        ("--coordinates", "cxcywh:normalised"),
    ),
    "rows of MS-CXR": (
        "csv",
        "dicom_id,category_name,label_text,x,y,w,h,score\n"
        + "".join(
            f"{NAMES[n]},Opacity,{TEXTS[n]},{b[0]},{b[1]},{b[2] - b[0]},{b[3] - b[1]},0.5\n"
            for n, b in enumerate(TRUE)
        ),
        (),
    ),
    "rows of VinDr-CXR": (
        "csv",
        "image_id,class_name,x_min,y_min,x_max,y_max,confidence\n"
        + "".join(f"{NAMES[n]},{TEXTS[n]},{','.join(map(str, b))},0.5\n" for n, b in enumerate(TRUE)),
        (),
    ),
    "rows of RSNA": (
        "csv",
        "patientId,x,y,width,height,score\n"
        + "".join(f"{NAMES[n]},{b[0]},{b[1]},{b[2] - b[0]},{b[3] - b[1]},0.5\n" for n, b in enumerate(TRUE)),
        (),
    ),
}


@pytest.fixture
def score(tmp_path, monkeypatch):
    """The mean IoU of a file and what the run writes to stderr."""
    monkeypatch.chdir(tmp_path)
    Path("truth.jsonl").write_text("".join(json.dumps(truth(n)) + "\n" for n in (0, 1)))

    def run(text: str, kind: str, *flags: str) -> tuple[float | None, str]:
        args = ["evaluate", "--truth", "truth.jsonl", "--bootstrap-samples", "100", "--input-format", kind]
        result = CliRunner().invoke(cli, [*args, *flags], input=text)
        assert "Traceback" not in result.stderr and result.exit_code in (0, 1)
        values = [json.loads(line)["value"] for line in result.stdout.splitlines()]
        return (values[0] if values else None), result.stderr

    return run


def layouts(content: object) -> list[str]:
    """A value as json.dump writes it, with and without indentation, and as lines."""
    if isinstance(content, str):
        return [content]
    made = [json.dumps(content), json.dumps(content, indent=4)]
    if isinstance(content, list):
        made.append("".join(json.dumps(each) + "\n" for each in content))
    return made


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_maker_is_read(name, score):
    kind, content, flags = FILES[name]
    for text in layouts(content):
        value, stderr = score(text, kind, *flags)
        assert stderr == ""
        assert value == pytest.approx(1, abs=0.04)


def test_an_answer_without_a_box_is_a_phrase_without_a_box(score):
    """A trace of thought that never ends, and the truth among the keys of ms-swift, are no prediction."""
    lines = [swift(0), swift(1) | {"response": "<think>It may be at [1, 2, 3, 4], or"}]
    value, stderr = score("".join(json.dumps(each) + "\n" for each in lines), "qwen-vl")
    assert (value, stderr) == (pytest.approx(0.5, abs=0.02), "")


def test_the_words_choose_the_phrase_of_an_image(score):
    other = truth(0) | {"phrase_id": "other", "text": TEXTS[1], "boxes": [TRUE[0]]}
    Path("truth.jsonl").write_text("".join(json.dumps(each) + "\n" for each in (truth(0), other)))
    items = [radvlm(0), radvlm(0) | {"label": TEXTS[1].upper() + "."}]
    assert score(json.dumps(items), "radvlm") == (pytest.approx(1, abs=0.02), "")
    unknown = [radvlm(0), radvlm(0) | {"label": "edema"}]
    assert "image_id: more than one phrase of the truth" in score(json.dumps(unknown), "radvlm")[1]
    twice = [radvlm(0), radvlm(0)]
    assert "the second line with this phrase" in score(json.dumps(twice), "radvlm")[1]


TWINS = {  # a file in another frame: the name that is in the message
    "batch of a server": "stretch:1000x1000",
    "MedGemma with a trace": "padded:1000",
    "pipeline, a row per box": "original",
    "rows of VinDr-CXR": "original",
    "Grounded SAM 2": "original",
    "LLaVA": "padded:1",
}


@pytest.mark.parametrize("name", TWINS)
def test_a_wrong_frame_is_named(name, score):
    """Read as fractions of the image, or as the original pixels."""
    kind, content, _ = FILES[name]
    wrong = "original" if TWINS[name] != "original" else "stretch:5000x5000"
    value, stderr = score(layouts(content)[0], kind, "--coordinates", wrong)
    assert TWINS[name] in stderr and "--coordinates" in stderr and not (value or 0) > 0.5


def test_centers_and_sizes_are_named(score):
    kind, content, _ = FILES["IDEA's Grounding DINO"]
    assert "--coordinates cxcywh:normalised" in score(json.dumps(content), kind)[1]
    other = [each | {"boxes": [[0.8, 0.7, 0.4, 0.6]]} for each in content]
    assert "--coordinates cxcywh:normalised" in score(json.dumps(other), kind)[1]


BROKEN = {
    "a box of three numbers": ("owl", [ROWS[0] | {"box": [1, 2, 3]}], "[0]: box: expected four numbers"),
    "a box of texts": (
        "owl",
        [ROWS[0] | {"box": corners(0) | {"xmin": "1"}}],
        "[0]: box: expected a number",
    ),
    "no score": (
        "owl",
        [{k: v for k, v in ROWS[0].items() if k != "score"}],
        "[0]: score: this key is missing",
    ),
    "lists of other lengths": (
        "grounding-dino",
        [{"image": path(0), "bboxes": [TRUE[0]], "scores": [0.1, 0.2]}],
        "[0]: scores: expected one for each of the boxes",
    ),
    "no text": ("qwen-vl", [{"image": path(0)}], "[0]: output: this key is missing"),
    "a number as text": ("qwen-vl", [{"image": path(0), "response": 5}], "[0]: response: expected a text"),
    "an unknown image": ("qwen-vl", {"x.jpg": qwen(0)}, ": the truth has no such phrase"),
    "the same image twice": (
        "grounding-dino",
        [{"image_path": path(0)} | dino(0)] * 2,
        "[1]: image_id: the second line with this image",
    ),
    "broken indentation": ("qwen-vl", '{\n "results": [', "<stdin>: not JSON"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_of_another_maker_is_named(name, score):
    kind, content, message = BROKEN[name]
    flags = ("--coordinates", "cxcywh:normalised") if kind == "grounding-dino" else ()
    value, stderr = score(layouts(content)[0], kind, *flags)
    assert value is None and message in stderr and stderr.count("\n") == 1
