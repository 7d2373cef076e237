import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from medground import pairing as stage
from medground.cli.main import cli
from medground.errors import MedgroundError
from medground.pairing import Rules, pair_sentences
from medground.records import Anatomy, Region, Sentence, Triplet

BOXES = {
    "right lung": (10, 10, 90, 190),
    "left lung": (110, 10, 190, 190),
    "right lower lung zone": (12, 130, 88, 188),
    "left lower lung zone": (112, 130, 188, 188),
    "cardiac silhouette": (70, 90, 150, 180),
}


def anatomy(image_id="i1", study_id="s1", view="PA", names=tuple(BOXES), **extra):
    own = [Region(name=name, box=BOXES[name], score=0.9) for name in names]
    return Anatomy(
        image_id=image_id,
        study_id=study_id,
        subject_id="p1",
        path=f"{image_id}.png",
        width=200,
        height=200,
        view=view,
        regions=own,
        extra=extra,
    )


def triplet(region, existence="present", finding="lung opacity", at=(0, 1), region_at=None):
    return Triplet(
        region=region,
        finding=finding,
        existence=existence,
        finding_span=at,
        region_span=region_at,
        cue=None,
        cue_span=None,
        region_source="explicit",
        rule="test",
    )


def sentence(*regions, number=0, text="words", existence="present", study_id="s1", **extra):
    return Sentence(
        study_id=study_id,
        sentence_id=f"{study_id}|{number}",
        section="findings",
        start=0,
        end=len(text),
        text=text,
        triplets=[triplet(region, existence) for region in regions],
        extra=extra,
    )


def pairs(*sentences, images=None, **rules):
    return list(pair_sentences(sentences, images or [anatomy()], Rules(**rules)))


def test_s1_one_region_gives_its_box():
    [pair] = pairs(sentence("left lung"))
    assert (pair.rule, pair.regions, pair.box) == ("S1", ["left lung"], BOXES["left lung"])
    assert (pair.path, pair.width, pair.height, pair.subject_id) == ("i1.png", 200, 200, "p1")


def test_s1_two_findings_in_one_region_give_one_pair():
    [pair] = pairs(sentence("left lung", "left lung"))
    assert (pair.rule, pair.regions, len(pair.triplets)) == ("S1", ["left lung"], 2)


def test_s2_a_region_and_its_part_give_the_box_of_the_region():
    [pair] = pairs(sentence("right lower lung zone", "right lung"))
    assert (pair.rule, pair.box) == ("S2", BOXES["right lung"])
    assert pair.regions == ["right lower lung zone", "right lung"]


def test_s2_sentences_for_one_region_are_joined_and_all_named():
    [pair] = pairs(
        sentence("left lung", number=0, text="First."),
        sentence("spine", number=1, text="Between."),
        sentence("left lung", number=2, text="Second."),
    )
    assert (pair.rule, pair.text, pair.sentence_id) == ("S2", "First. Second.", "s1|0")
    assert pair.extra["sentence_ids"] == ["s1|0", "s1|2"]
    assert len(pair.triplets) == 2


def test_s2_the_same_words_twice_are_kept_once():
    [pair] = pairs(*(sentence("left lung", number=n, text="Same.") for n in range(2)))
    assert (pair.text, pair.extra["sentence_ids"]) == ("Same.", ["s1|0", "s1|1"])


def test_wrapped_lines_are_unwrapped_and_then_known_as_the_same_words():
    texts = ["Small left\n effusion.", "Small left effusion."]
    [pair] = pairs(*(sentence("left lung", number=n, text=text) for n, text in enumerate(texts)))
    assert pair.text == "Small left effusion."


def test_without_join_each_sentence_is_its_own_pair():
    found = pairs(*(sentence("left lung", number=n) for n in range(2)), join=False)
    assert [(pair.rule, pair.sentence_id) for pair in found] == [("S1", "s1|0"), ("S1", "s1|1")]


def test_s3_several_regions_give_the_box_around_them():
    [pair] = pairs(sentence("right lung", "left lung"))
    assert (pair.rule, pair.box) == ("S3", (10, 10, 190, 190))
    assert pair.region_boxes == [BOXES["right lung"], BOXES["left lung"]]


def test_s3_of_several_regions_those_without_a_box_are_named():
    [pair] = pairs(sentence("left chest wall", "left lung"))
    assert (pair.rule, pair.regions) == ("S3", ["left lung"])
    assert pair.extra["regions_without_box"] == ["left chest wall"]


def test_s3_sentences_about_the_same_set_of_regions_are_joined():
    [pair, other] = pairs(
        sentence("right lung", "left lung", number=0, text="First."),
        sentence("left lung", number=1, text="Between."),
        sentence("left lung", "right lung", number=2, text="Second."),
    )
    assert (pair.rule, pair.text, pair.box) == ("S3", "First. Second.", (10, 10, 190, 190))
    assert (pair.extra["sentence_ids"], len(pair.triplets)) == (["s1|0", "s1|2"], 4)
    assert (other.rule, other.text) == ("S1", "Between.")


def test_s4_no_box_gives_no_pair():
    assert pairs(sentence("spine")) == []
    assert pairs(sentence("left breast")) == []
    assert pairs(sentence(None, "unknown")) == []


@pytest.mark.parametrize("existence", ["absent", "uncertain"])
def test_what_is_not_present_gives_a_pair_only_on_request(existence):
    assert pairs(sentence("left lung", existence=existence)) == []
    assert len(pairs(sentence("left lung", existence=existence), existences=frozenset({existence}))) == 1


def test_a_box_below_the_minimum_score_is_none():
    assert pairs(sentence("left lung"), min_score=0.91) == []
    assert len(pairs(sentence("left lung"), min_score=0.9)) == 1


@pytest.mark.parametrize("view, count", [("AP", 1), (None, 1), ("", 1), ("LATERAL", 0), ("LL", 0)])
def test_only_frontal_images_count_and_unknown_views_are_taken_for_frontal(view, count):
    assert len(pairs(sentence("left lung"), images=[anatomy(view=view)])) == count


def test_each_frontal_image_of_the_study_gives_its_pair():
    found = pairs(sentence("left lung"), images=[anatomy("i1"), anatomy("i2"), anatomy("i3", "s2")])
    assert [pair.image_id for pair in found] == ["i1", "i2"]


def test_a_lung_without_a_box_has_the_box_around_its_three_zones():
    zones = [Region(name=f"left {level} lung zone", box=(110, y, 190, y + 60)) for level, y in THIRDS.items()]
    image = anatomy(names=())
    whole = Anatomy(**{**_fields(image), "regions": zones})
    [pair] = pairs(sentence("left lung"), images=[whole])
    assert (pair.regions, pair.box) == (["left lung"], (110, 10, 190, 190))
    two_of_three = Anatomy(**{**_fields(image), "regions": zones[:2]})
    assert pairs(sentence("left lung"), images=[two_of_three]) == []


THIRDS = {"upper": 10, "mid": 70, "lower": 130}


def _fields(record):
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def test_of_two_boxes_for_one_region_the_better_scored_stays():
    image = anatomy(names=())
    twice = [
        Region(name="spine", box=(0, 0, 5, 5), score=0.9),
        Region(name="spine", box=(0, 0, 9, 9), score=0.6),
    ]
    [pair] = pairs(sentence("spine"), images=[Anatomy(**{**_fields(image), "regions": twice})])
    assert pair.box == (0, 0, 5, 5)


def test_an_image_given_twice_is_refused():
    with pytest.raises(MedgroundError, match="the image occurs twice"):
        pairs(sentence("left lung"), images=[anatomy(), anatomy()])


def test_unknown_keys_of_sentence_and_image_are_carried_and_the_sentence_wins():
    [pair] = pairs(
        sentence("left lung", split="train", n=1), sentence("left lung", number=1, n=2, also=3),
        images=[anatomy(split="test", site="x")],
    )  # fmt: skip
    carried = {key: pair.extra[key] for key in ("split", "n", "also", "site")}
    assert carried == {"split": "train", "n": 1, "also": 3, "site": "x"}


def test_one_study_is_held_at_a_time():
    taken = []

    def stream():
        for study in ("s1", "s2", "s3"):
            taken.append(study)
            yield sentence("left lung", study_id=study)

    next(iter(pair_sentences(stream(), [anatomy()])))
    assert taken == ["s1", "s2"]


def test_ids_that_never_meet_are_warned_of(caplog):
    assert pairs(sentence("left lung", study_id="50414267")) == []
    assert "study_ids" in caplog.text


def test_images_of_another_patient_are_left_out(caplog):
    for subject, other, count in (("p16", "16", 1), ("16", "p16", 1), ("x", "px", 0), ("16", "17", 0)):
        given = replace(sentence("left lung"), subject_id=subject)
        assert len(pairs(given, images=[replace(anatomy(), subject_id=other)])) == count
    assert sum("1 images are of another patient" in each for each in caplog.messages) == 2


def test_images_without_a_study_are_warned_of(caplog):
    pairs(sentence("left lung"), images=[anatomy(study_id=None), anatomy("i2")])
    assert "1 of 2 images have no study_id" in caplog.text


regions_of_sentence = st.lists(st.sampled_from([*BOXES, "spine", None]), max_size=4)


@pytest.mark.slow
@given(st.lists(regions_of_sentence, max_size=6), st.booleans(), st.booleans())
def test_boxes_hold_their_regions_and_no_place_is_lost(sentences, split, join):
    given_ = [sentence(*names, number=n) for n, names in enumerate(sentences)]
    found = pairs(*given_, split=split, join=join)
    for pair in found:
        assert all(_inside(box, pair.box) for box in pair.region_boxes)
        assert pair.region_boxes == [BOXES[name] for name in pair.regions]
    wanted = {name for names in sentences for name in names if name in BOXES}
    assert {name for pair in found for name in pair.regions} == wanted


def _inside(part, whole):
    return part[0] >= whole[0] and part[1] >= whole[1] and part[2] <= whole[2] and part[3] <= whole[3]


@pytest.mark.slow
@given(st.lists(regions_of_sentence, max_size=5))
def test_without_join_and_split_a_slow_reference_agrees(sentences):
    expected = []
    for n, names in enumerate(sentences):
        boxes = [BOXES[name] for name in dict.fromkeys(names) if name in BOXES]
        if boxes:
            around = tuple(f(b[i] for b in boxes) for i, f in enumerate((min, min, max, max)))
            expected.append((f"s1|{n}", around))
    found = pairs(*(sentence(*names, number=n) for n, names in enumerate(sentences)), join=False)
    assert [(pair.sentence_id, pair.box) for pair in found] == expected


def test_the_box_around_boxes_is_that_of_the_boxes_module():
    from medground import boxes

    assert stage.around(list(BOXES.values())) == boxes.union(list(BOXES.values()))


# --- the command ---------------------------------------------------------------------------------


def lines(*records):
    from medground import jsonl

    return b"".join(jsonl.dumps(each) for each in records).decode()


@pytest.fixture
def run(tmp_path):
    """Run `medground align` on sentences given as text; the boxes are those of `anatomy()`."""
    boxes = tmp_path / "boxes.jsonl"
    boxes.write_text(lines(anatomy()))

    def invoke(sentences, *flags):
        return CliRunner().invoke(cli, ["align", "--anatomy", str(boxes), *flags], input=sentences)

    return invoke


def test_the_command_writes_one_pair_a_line(run):
    result = run(lines(sentence("left lung"), sentence("right lung", number=1)))
    assert (result.exit_code, result.stderr) == (0, "")
    assert [json.loads(line)["regions"] for line in result.stdout.splitlines()] == [
        ["left lung"],
        ["right lung"],
    ]


def test_the_command_splits_on_request(run):
    result = run(lines(sentence("left lung", "right lung")), "--split")
    assert [json.loads(line)["rule"] for line in result.stdout.splitlines()] == ["S3", "S3"]


def test_no_sentences_give_no_pairs(run):
    result = run("")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_a_bad_line_ends_the_run_and_names_its_place(run):
    result = run(lines(sentence("left lung")) + "{oops\n")
    assert result.exit_code == 1
    assert "<stdin>:2: not JSON" in result.stderr
    assert "Traceback" not in result.stderr


def test_with_rejects_the_run_goes_on(run, tmp_path):
    rejects = tmp_path / "bad.jsonl"
    result = run("{oops\n" + lines(sentence("left lung")), "--rejects", str(rejects))
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 1)
    assert rejects.read_text() == "{oops\n"


def test_a_failed_run_leaves_the_output_file_alone(run, tmp_path):
    target = tmp_path / "pairs.jsonl"
    target.write_text("from an earlier run\n")
    assert run("{oops\n", "-o", str(target)).exit_code == 1
    assert target.read_text() == "from an earlier run\n"


def test_two_inputs_cannot_both_be_stdin():
    result = CliRunner().invoke(cli, ["align", "--anatomy", "-"], input="")
    assert result.exit_code == 2
    assert "only one input can be stdin" in result.stderr


@pytest.mark.parametrize(
    ("named", "boxed", "counts"),
    [
        (["left lnug", "left lung", "rigth lung"], ["left lung"], (2, 0)),
        (["left lung"], ["left lung", "Herz", "Lunge"], (0, 2)),
        (["left lung", "Herz"], ["left lung", "Herz"], None),
        (["left lung", None, "unknown", "left breast"], ["right lung"], None),
    ],
)
def test_region_names_that_nobody_knows_are_one_warning(caplog, named, boxed, counts):
    image = Anatomy(
        image_id="i1", study_id="s1", path="i1.png", width=9, height=9,
        regions=[Region(name=each, box=(1, 1, 5, 5)) for each in boxed],
    )  # fmt: skip
    list(pair_sentences([sentence(*named), sentence(*named, number=1)], [image]))
    messages = [each.getMessage() for each in caplog.records]
    expected = "unknown region names: {} in the sentences, {} in the boxes; see docs/parser.md"
    assert messages == ([expected.format(*counts)] if counts else [])
