"""Answers in other people's files and frames, read by evaluate."""

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from medground.answers import frames
from medground.boxes import Letterbox
from medground.cli.main import cli
from medground.errors import BadRecord, MedgroundError

WIDTH, HEIGHT = 200, 100
TRUE = [60.0, 20.0, 120.0, 80.0]


def lines(*records: dict) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def phrase(number: int, image: int) -> dict:
    own = {"image_id": f"i{image}", "phrase_id": f"p{number}", "subject_id": f"s{image}", "path": "x.png"}
    return own | {"width": WIDTH, "height": HEIGHT, "text": "opacity", "boxes": [TRUE]}


TRUTH = [phrase(0, 0), phrase(1, 0), phrase(2, 1)]


@pytest.fixture
def miou(tmp_path, monkeypatch):
    """The mean IoU of a file's answers, or the result where the run failed."""
    monkeypatch.chdir(tmp_path)
    Path("truth.jsonl").write_text(lines(*TRUTH))

    def run(text: str | bytes, *flags: str):
        args = ["evaluate", "--truth", "truth.jsonl", "--bootstrap-samples", "100", *flags]
        result = CliRunner().invoke(cli, args, input=text)
        if result.exit_code:
            assert "Traceback" not in result.stderr
            return result.stderr
        return json.loads(result.stdout.splitlines()[0])["value"]

    return run


def test_csv_of_corners_or_sizes(miou):
    rows = "".join(f"p{n},60,20,120,80,0.5\n" for n in range(3))
    assert miou("phrase_id,x1,y1,x2,y2,score\n" + rows, "--input-format", "csv") == 1
    sizes = "".join(f"i{n // 2},p{n},60,20,60,60\n" for n in range(3))
    assert miou("﻿image_id,phrase_id,x,y,w,h\n" + sizes, "--input-format", "csv") == 1


def test_the_best_box_of_a_csv_comes_first(miou):
    rows = "p0,0,0,9,9,0.2\np0,60,20,120,80,0.9\n"
    assert miou("phrase_id,x1,y1,x2,y2,score\n" + rows, "--input-format", "csv") == pytest.approx(1 / 3)


def test_coco_results_by_phrase_or_by_an_image_with_one_phrase(miou):
    box = {"bbox": [60, 20, 60, 60], "score": 0.5}
    found = [box | {"phrase_id": "p0"}, box | {"phrase_id": "p1"}, box | {"image_id": "i1"}]
    assert miou(json.dumps(found), "--input-format", "coco") == 1


def test_coco_results_for_an_image_with_two_phrases_are_ambiguous(miou):
    found = [{"bbox": [60, 20, 60, 60], "score": 0.5, "image_id": "i0"}]
    assert "[0]: image_id: more than one phrase" in miou(json.dumps(found), "--input-format", "coco")


def test_maira_2_speaks_in_bins_of_the_centred_square(miou):
    """The square of a 200 x 100 image lies from x = 50 to 150; bin 10 is its share .105."""
    said = "<obj>opacity.<box><x10><y20><x69><y79></box></obj>"
    expected = [50 + 10.5, 20.5, 50 + 69.5, 79.5]
    overlap = (119.5 - 60.5) * (79.5 - 20.5)
    whole = 60 * 60 + (expected[2] - expected[0]) * (expected[3] - expected[1]) - overlap
    text = lines(*({"phrase_id": f"p{n}", "output": said} for n in range(3)))
    assert miou(text, "--input-format", "maira-2") == pytest.approx(overlap / whole, abs=1e-9)


def test_radvlm_speaks_in_shares(miou):
    said = "The opacity is at [0.3, 0.2, 0.6, 0.80] and [0, 0, .1, .1]."
    text = lines(*({"phrase_id": f"p{n}", "image_id": f"i{n // 2}", "output": said} for n in range(3)))
    assert miou(text, "--input-format", "radvlm") == pytest.approx(1)


def test_a_text_without_a_box_finds_nothing(miou):
    text = lines(*({"phrase_id": f"p{n}", "output": "No finding."} for n in range(3)))
    assert miou(text, "--input-format", "radvlm") == 0


def test_our_own_records_may_be_in_another_frame(miou):
    letterboxed = [30.0, 35.0, 60.0, 65.0]  # 200 x 100 in a square of 100
    found = [
        {"image_id": f"i{n // 2}", "phrase_id": f"p{n}", "text": "", "present": 1, "model": "m",
         "boxes": [{"box": letterboxed, "score": 1}]}
        for n in range(3)
    ]  # fmt: skip
    assert miou(lines(*found), "--coordinates", "letterbox:100") == pytest.approx(1)


def test_the_other_file_has_a_format_of_its_own(miou, tmp_path):
    Path("other.csv").write_text("phrase_id,x1,y1,x2,y2\n" + "".join(f"p{n},.3,.2,.6,.8\n" for n in range(3)))
    flags = ("--compare", "other.csv", "--compare-format", "csv", "--compare-coordinates", "normalised")
    text = lines(*({"phrase_id": f"p{n}", "output": "[0.3, 0.2, 0.6, 0.8]"} for n in range(3)))
    args = [
        "evaluate",
        "--truth",
        "truth.jsonl",
        "--bootstrap-samples",
        "100",
        "--input-format",
        "radvlm",
        *flags,
    ]
    found = [json.loads(line) for line in CliRunner().invoke(cli, args, input=text).stdout.splitlines()]
    assert {each["value"] for each in found if each["metric"] == "difference_miou"} == {0}


@pytest.mark.parametrize("kind", ["csv", "coco", "jsonl"])
def test_a_compressed_file_of_predictions_is_called_so(miou, kind):
    packed = gzip.compress(b"phrase_id,x1,y1,x2,y2\np0,1,2,3,4\n")
    assert "gzipped: zcat it into this command" in miou(packed, "--input-format", kind)


def test_a_field_without_end_is_no_csv(miou):
    before = csv.field_size_limit(131_072)  # for all of the process: others may have raised it
    try:
        messages = miou("phrase_id,x1,y1,x2,y2\np0,1,2,3," + "4" * 200_000, "--input-format", "csv")
    finally:
        csv.field_size_limit(before)
    assert "<stdin>:2: not CSV" in messages


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        (
            "phrase_id,x1,y1,x2,y2\np0,1,2,3,4\n",
            ("--coordinates", "normalised"),
            "<stdin>:2: box: lies beyond",
        ),
        ("phrase_id,x1,y1,x2,y2\np0,.1,.2,.3,.4\n", (), "try --coordinates normalised"),
        ("phrase_id,x1,y1,x2,y2\np9,1,2,3,4\n", (), "<stdin>:2: phrase_id: the truth has no such phrase"),
        ("phrase_id,x1,y1,x2,y2\np0,1,2,x,4\n", (), "<stdin>:2: x2: expected a number"),
        ("phrase_id,x1,y1,x2,y2\np0,2,2,1,4\n", (), "<stdin>:2: box: a box needs x2 > x1"),
        ("phrase_id,x1,y1,x2,y2\np0,2,2,inf,4\n", (), "<stdin>:2: box: a box holds four finite numbers"),
        ("phrase_id,x1,y1,x2,y2,score\np0,1,2,3,4,nan\n", (), "<stdin>:2: score: expected a finite number"),
        ("phrase_id,x1,y1,x2,y2,coverage\np0,1,2,3,4,a\n", (), "<stdin>:2: coverage: expected a number"),
        ("phrase_id,x1,y1,x2,y2,coverage\np0,1,2,3,4,.9\np0,1,2,3,4,\n", (), ":3: coverage: another"),
        (
            '[{"bbox": [1, 2, 3, 4], "score": NaN, "phrase_id": "p0"}]',
            ("--input-format", "coco"),
            "[0]: score:",
        ),
        ("phrase_id,x1,y1,x2\np0,1,2,3\n", (), "needs the columns phrase_id and x1"),
        (b"phrase_id,x1\n\xff\n", (), "not UTF-8"),
        ("phrase_id,x1,y1,x2,y2\n", ("--coordinates", "squashed"), "squashed: not a frame"),
        ("{}", ("--input-format", "coco"), "expected a list of results"),
        ("[{]", ("--input-format", "coco"), "not JSON"),
        ('[{"bbox": [1, 2, 3]}]', ("--input-format", "coco"), "[0]: bbox: expected bbox"),
        ('{"phrase_id":"p0"}\n', ("--input-format", "radvlm"), "<stdin>:1: output: this key is missing"),
        ('{"phrase_id":"p0","output":""}\n' * 2, ("--input-format", "radvlm"), ":2: phrase_id: the second"),
    ],
)  # fmt: skip
def test_a_fault_is_one_line_with_its_place(miou, text, flags, message):
    assert message in miou(
        text, *(("--input-format", "csv") if "--input-format" not in flags else ()), *flags
    )


def test_formats_are_for_phrases(miou):
    assert "takes no --input-format" in miou("", "--protocol", "anatomy", "--input-format", "csv")
    names = ("--coco-images", Path("names.json"))
    names[1].write_text('{"images": []}')
    assert "anatomy takes no --coco-images" in miou("", "--protocol", "anatomy", *map(str, names))


# --- what is kept, dropped and reported -------------------------------------------------------------


def ours(number: int, *boxes: tuple[list[float], float], **more: object) -> dict:
    found = [{"box": box, "score": score} for box, score in boxes]
    own = {"image_id": f"i{number // 2}", "phrase_id": f"p{number}", "text": "", "present": 1, "model": "m"}
    return own | {"boxes": found} | more


def scores(text: str, *flags: str) -> tuple[list[dict], str]:
    """The lines of a run that succeeds, and what it says."""
    args = ["evaluate", "--truth", "truth.jsonl", "--bootstrap-samples", "100", *flags]
    result = CliRunner().invoke(cli, args, input=text)
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()], result.stderr


SHARES = [TRUE[0] / WIDTH, TRUE[1] / HEIGHT, TRUE[2] / WIDTH, TRUE[3] / HEIGHT]


def test_our_records_keep_all_they_say_in_any_frame(miou):
    more = {"coverage": 0.9, "leakage": True}
    found, _ = scores(
        lines(*(ours(n, (SHARES, 0.5), **more) for n in range(3))), "--coordinates", "normalised"
    )
    plain, _ = scores(lines(*(ours(n, (TRUE, 0.5), **more) for n in range(3))))
    assert {"single-box", "coverage"} == {each["protocol"] for each in found}
    assert all((each["model"], each["leakage"], each["coverage"]) == ("m", True, 0.9) for each in found)
    strip = [[{k: v for k, v in e.items() if k != "predictions"} for e in each] for each in (found, plain)]
    assert strip[0] == strip[1]


def test_the_best_box_of_our_records_comes_first_in_any_frame(miou):
    small = [TRUE[0], TRUE[1], TRUE[2], 50.0]
    two = [ours(n, (small, 0.2), (TRUE, 0.9)) for n in range(3)]
    assert miou(lines(*two)) == 1
    assert miou(lines(*two), "--coordinates", "letterbox:200") < 1  # other boxes, in the same order
    shares = [ours(n, ([x / 200 for x in small], 0.2), (SHARES, 0.9)) for n in range(3)]
    assert miou(lines(*shares), "--coordinates", "normalised") == pytest.approx(1)


def test_what_ground_says_in_its_csv_is_read_back(miou):
    head = "image_id,phrase_id,text,present,score,x1,y1,x2,y2,model,coverage\n"
    rows = [
        f"i{n // 2},p{n},opacity,0.9,{score},60,20,120,80,m1,0.9\n" for n in range(2) for score in (1, 0.5)
    ]
    found, _ = scores(head + "".join(rows) + "i1,p2,opacity,0.1,,,,,,m1,0.9\n", "--input-format", "csv")
    assert {each["model"] for each in found} == {"m1"}
    (whole,) = (each for each in found if each["metric"] == "covered" and each["group"] == "all")
    assert (whole["value"], whole["coverage"]) == (pytest.approx(2 / 3), 0.9)


def test_a_text_file_without_any_box_of_its_form_is_reported(miou):
    said = lines(*({"phrase_id": f"p{n}", "output": "A box at (60, 20)."} for n in range(3)))
    found, messages = scores(said, "--input-format", "maira-2")
    assert found[0]["value"] == 0 and "no box in any of 3 texts; is it --input-format maira-2" in messages
    one = [*said.splitlines()[:2], json.dumps({"phrase_id": "p2", "output": "<box><x1><y1><x9><y9></box>"})]
    assert "no box" not in scores("\n".join(one), "--input-format", "maira-2")[1]
    empty = lines(*({"phrase_id": f"p{n}", "output": ""} for n in range(3)))
    assert scores(empty, "--input-format", "radvlm")[1] == ""


@pytest.mark.parametrize(
    "output",
    [
        "[('Left effusion.', [(0.1, 0.2, 0.7, 0.80)]), ('No (1, 2) more.', None)]",
        [["Left effusion.", [[0.1, 0.2, 0.7, 0.8]]], ["No more.", None]],
    ],
)
def test_what_the_processor_of_maira_2_makes_is_read(miou, output):
    """The square of a 200 x 100 image begins at x = 50."""
    said = lines(*({"phrase_id": f"p{n}", "output": output} for n in range(3)))
    assert miou(said, "--input-format", "maira-2") == pytest.approx(1)


def test_numbers_of_a_text_may_have_exponents(miou):
    said = lines(
        *({"phrase_id": f"p{n}", "output": "[3e-1, 0.2, 6.E-1, 8e-01], [0., 0, 1., +1]"} for n in range(3))
    )
    assert miou(said, "--input-format", "radvlm") == pytest.approx(1)


def test_a_requested_frame_is_that_of_a_text(miou):
    said = lines(*({"phrase_id": f"p{n}", "output": str(TRUE)} for n in range(3)))
    assert miou(said, "--input-format", "radvlm", "--coordinates", "original") == 1
    assert "lies beyond the frame normalised" in miou(said, "--input-format", "radvlm")
    shares = lines(*({"phrase_id": f"p{n}", "output": f"[('x', [{tuple(SHARES)}])]"} for n in range(3)))
    assert miou(shares, "--input-format", "maira-2", "--coordinates", "normalised") == pytest.approx(1)
    assert miou(shares, "--input-format", "maira-2") < 1
    for frame in ("original", "letterbox:640"):
        assert "--coordinates of maira-2 is crop or normalised" in miou(
            shares, "--input-format", "maira-2", "--coordinates", frame
        )


FLAT = [60.0, 20.0, 60.0, 80.0]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (
            "phrase_id,x1,y1,x2,y2\n" + "".join(f"p{n},60,20,60,80\np{n},60,20,120,80\n" for n in range(3)),
            "csv",
        ),
        (
            json.dumps(
                [
                    {"phrase_id": f"p{n}", "bbox": b}
                    for n in range(3)
                    for b in ([1, 1, 0, 5], [60, 20, 60, 60])
                ]
            ),
            "coco",
        ),
        (
            lines(
                *({"phrase_id": f"p{n}", "output": "[.1, .1, .1, .2], [.3, .2, .6, .8]"} for n in range(3))
            ),
            "radvlm",
        ),
        (lines(*(ours(n, (FLAT, 0.9), (TRUE, 0.5)) for n in range(3))), "jsonl"),
    ],
)
def test_boxes_without_area_are_dropped_and_reported_once(miou, text, kind):
    found, messages = scores(text, "--input-format", kind)
    assert found[0]["value"] == pytest.approx(1)
    assert messages.count("<stdin>: dropped 3 boxes without area") == 1 and len(messages.splitlines()) == 1


def test_a_box_that_rounding_leaves_without_area_is_dropped(miou):
    found, messages = scores(
        "phrase_id,x1,y1,x2,y2\np0,0,0,1e-30,.5\n", "--input-format", "csv", "--coordinates", "crop"
    )
    assert found[0]["value"] == 0 and "dropped 1 boxes" in messages


@pytest.mark.parametrize(
    ("good", "bad", "kind", "place"),
    [
        ("phrase_id,x1,y1,x2,y2\np0,60,20,120,80\n", "p1,60,20,50,80\n", "csv", "<stdin>:3: box: "),
        (
            lines(ours(0, (TRUE, 0.5))),
            lines(ours(1, (TRUE, 0.5), ([5, 5, 1, 9], 0.5))),
            "jsonl",
            "<stdin>:2: boxes[1].box: ",
        ),
        (
            lines({"phrase_id": "p0", "output": "[.3, .2, .6, .8]"}),
            lines({"phrase_id": "p1", "output": "[.9, 0, .1, 1]"}),
            "radvlm",
            "<stdin>:2: box: ",
        ),
    ],
)
def test_a_box_turned_inside_out_is_a_bad_line(miou, good, bad, kind, place):
    assert place in miou(good + bad, "--input-format", kind)
    found, messages = scores(good + bad, "--input-format", kind, "--rejects", "bad.txt")
    assert found[0]["value"] == pytest.approx(1 / 3) and f"rejected {place}" in messages
    assert Path("bad.txt").read_text() == bad


def test_a_file_of_bad_lines_alone_is_refused(miou):
    text = "phrase_id,x1,y1,x2,y2\np0,60,20,50,80\n"
    assert "every line was rejected" in miou(text, "--input-format", "csv", "--rejects", "bad.txt")


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"present": 1.5}, "present"),
        ({"boxes": [{"box": TRUE, "score": -0.1}]}, "boxes[0].score"),
        ({"boxes": [{"box": TRUE, "score": 1}, {"box": TRUE, "score": 87}]}, "boxes[1].score"),
    ],
)
def test_our_scores_are_shares(miou, more, field):
    assert f"<stdin>:1: {field}: expected a number from 0 to 1" in miou(lines(ours(0) | more))


def test_scores_outside_0_and_1_are_reported(miou):
    found, messages = scores(
        "phrase_id,x1,y1,x2,y2,score\np0,60,20,120,80,87\np1,60,20,120,80,1\n", "--input-format", "csv"
    )
    assert found[0]["value"] == pytest.approx(2 / 3) and "1 scores are not in [0, 1]" in messages


@given(
    st.integers(2, 3000), st.integers(2, 3000), st.tuples(*[st.floats(0, 1)] * 4),
    st.sampled_from(["normalised", "crop", "letterbox:640", "stretch:224x512"]),
)  # fmt: skip
def test_every_frame_leads_back_to_original_pixels(width, height, shares, frame):
    """There by the definition of the frame, and back by frames.to_original."""
    side = min(width, height)
    left, top = ((width - side) / 2, (height - side) / 2) if frame == "crop" else (0, 0)
    wide, high = (side, side) if frame == "crop" else (width, height)
    x1, x2 = sorted((left + wide * shares[0], left + wide * shares[1]))
    y1, y2 = sorted((top + high * shares[2], top + high * shares[3]))
    there = {
        "normalised": [x1 / width, y1 / height, x2 / width, y2 / height],
        "crop": [(x1 - left) / side, (y1 - top) / side, (x2 - left) / side, (y2 - top) / side],
        "letterbox:640": Letterbox(width, height, 640).to_square(np.array([[x1, y1, x2, y2]]))[0].tolist(),
        "stretch:224x512": [x1 * 224 / width, y1 * 512 / height, x2 * 224 / width, y2 * 512 / height],
    }[frame]
    assert frames.to_original(frame, tuple(there), width, height) == pytest.approx((x1, y1, x2, y2), abs=1e-6)


@pytest.mark.parametrize("frame", ["", "letterbox", "letterbox:0", "stretch:5", "Original", "crop:5"])
def test_what_is_no_frame_is_refused(frame):
    with pytest.raises(MedgroundError, match="not a frame"):
        frames.check(frame)


def test_a_box_far_beyond_its_frame_is_refused():
    with pytest.raises(BadRecord, match="beyond the frame"):
        frames.to_original("letterbox:100", (0, 0, 640, 640), 200, 100)
