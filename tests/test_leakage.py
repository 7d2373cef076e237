"""Leakage by patient: digests, training records, what is refused, and what marks a model."""

import hashlib
import hmac
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from keyed import KEY, unkeyed
from toy_runs import digests, finetune, lines, pretrain, record, write

from medground import checkpoints, leakage, site_key
from medground.data.examples import Example
from medground.errors import MedgroundError


@dataclass
class Seen:
    image_id: str
    subject_id: str | None = None


def test_a_digest_is_the_start_of_the_hmac_of_the_id_with_the_site_key():
    whole = hmac.new(KEY.secret, b"p10000032", "sha256").hexdigest()
    assert KEY.digest("p10000032") == whole[:16]
    assert site_key.unkeyed_digest("p10000032") == hashlib.sha256(b"p10000032").hexdigest()[:16]


def test_each_subject_and_each_image_counts_once():
    records = [Seen("i1", "s1"), Seen("i2", "s1"), Seen("i3"), Seen("i3"), Seen("i4", "")]
    assert leakage.digests_of(records, KEY) == {*map(KEY.digest, ("s1", "i1", "i2", "i3", "i4"))}
    assert leakage.digests_of([], KEY) == set()


def test_an_overlap_names_each_patient_once_and_the_first_in_order():
    records = [Seen("i1", "c"), Seen("i2", "a"), Seen("i3", "c"), Seen("i4", "d"), Seen("i5")]
    known = leakage.Patients.of([Seen("x", "c"), Seen("i2"), Seen("i5", "z"), Seen("y", "b")])
    assert leakage.overlap(records, known, "x and y", "x") == [leakage.Leak(3, "x and y", 1, "x")]
    assert leakage.overlap(records[1:], known, "x and y", "x") == [leakage.Leak(3, "x and y", 1, "x")]
    assert (
        leakage.overlap([], known, "x and y", "x")
        == leakage.overlap(records, leakage.Patients(), "", "")
        == []
    )


def test_a_subject_is_no_image_of_the_same_name():
    assert leakage.overlap([Seen("1", "a")], leakage.Patients.of([Seen("2", "1")]), "", "") == []


@pytest.mark.parametrize(("one", "other"), [("p10000032", "10000032"), ("10000032", "p10000032")])
def test_a_subject_is_the_same_with_and_without_the_letter_of_mimic(one, other):
    seen = [Seen("i1", one)]
    trained = {"subjects": sorted(leakage.digests_of(seen, KEY)), "key": KEY.name}
    for known in (leakage.Patients.of(seen), leakage.Patients.trained(trained)):
        assert leakage.overlap([Seen("i2", other), Seen("i3", "s10000032")], known, "", "")[0].count == 1
    assert leakage.without([Seen("i2", other), Seen("i3", "4")], seen) == [Seen("i3", "4")]
    unnamed = [Seen("i1", other), Seen("i2", one)]
    assert leakage.without(unnamed, [Seen("i1")]) == []


IDS = st.sampled_from(["", "1", "2", "3"])
SEEN = st.lists(st.builds(Seen, st.sampled_from(["i1", "i2", "i3"]), st.none() | IDS))


@pytest.mark.slow
@given(SEEN, SEEN)
def test_two_records_leak_if_they_share_a_subject_or_an_image(some, others):
    pairs = [
        (one, two)
        for one in some
        for two in others
        if one.image_id == two.image_id or (one.subject_id and one.subject_id == two.subject_id)
    ]
    both = {one.subject_id or one.image_id for one, _ in pairs}
    first = next((n for n, one in enumerate(some, start=1) if any(one is each for each, _ in pairs)), 0)
    for known in (
        leakage.Patients.of(others),
        leakage.Patients.trained({"subjects": sorted(leakage.digests_of(others, KEY)), "key": KEY.name}),
    ):
        found = leakage.overlap(some, known, "", "")
        assert [(each.count, each.first) for each in found] == ([(len(both), first)] if both else [])


def test_the_first_leak_is_named_unless_leaks_are_allowed(caplog):
    leaks = [leakage.Leak(1, "this and that", 5, "that"), leakage.Leak(2, "this and those", 1, "this")]
    with pytest.raises(
        MedgroundError, match=r"1 subject is in both this and that \(first: record 5 of that\); split them"
    ):
        leakage.check(leaks, False, "split them")
    assert leakage.check(leaks, True, "split them") is True
    assert "in both this and that" in caplog.text and "in both this and those" in caplog.text
    assert leakage.check([], False, "") is False


@pytest.mark.slow
def test_the_record_names_all_patients_that_were_trained_on_and_no_others(toy_cohort, pretrained, tmp_path):
    before = {each["subject_id"] for each in lines(toy_cohort.pairs)}
    assert record(pretrained)["subjects"] == digests(before)
    new = [each | {"subject_id": f"p{n + 50}"} for n, each in enumerate(lines(toy_cohort.phrases))]
    source = write(tmp_path / "new.jsonl", new)
    done = finetune(toy_cohort, tmp_path / "ft", "--init-from", pretrained, phrases=source)
    assert done.exit_code == 0, done.output
    names = {each[key] for each in new if each["split"] == "train" for key in ("subject_id", "image_id")}
    both = sorted({*digests(before), *map(KEY.digest, names)})
    assert record(tmp_path / "ft") == {"step": 2, "subjects": both, "key": KEY.name}


@pytest.mark.slow
def test_training_patients_of_the_start_are_refused_or_mark_the_model(toy_cohort, pretrained, tmp_path):
    moved = [
        each | {"split": "test" if n < 2 else "train"} for n, each in enumerate(lines(toy_cohort.phrases))
    ]
    source = write(tmp_path / "moved.jsonl", moved)
    refused = finetune(toy_cohort, tmp_path / "ft", "--init-from", pretrained, phrases=source)
    assert refused.exit_code == 1
    assert "2 subjects are in both test and the training data of" in refused.stderr
    assert "(first: record 1 of test)" in refused.stderr
    assert "--allow-leakage" in refused.stderr and not (tmp_path / "ft").exists()
    allowed = finetune(
        toy_cohort, tmp_path / "ft", "--init-from", pretrained, "--allow-leakage", phrases=source
    )
    assert allowed.exit_code == 0 and "(first: record 1 of test)" in allowed.stderr
    assert record(tmp_path / "ft")["leakage"] is True


@pytest.mark.slow
def test_pretraining_leaves_out_the_validation_and_test_patients_of_fine_tuning(toy_cohort, tmp_path):
    split = ["test", "val", *["train"] * 20]
    phrases = [each | {"split": split[n]} for n, each in enumerate(lines(toy_cohort.phrases))]
    source = write(tmp_path / "phrases.jsonl", phrases)
    pretrain(toy_cohort, tmp_path / "agp", "--exclude-held-out", source)
    everyone = {each["subject_id"] for each in lines(toy_cohort.pairs)}
    assert record(tmp_path / "agp")["subjects"] == digests(everyone - {"p0", "p1"})
    done = finetune(toy_cohort, tmp_path / "ft", "--init-from", tmp_path / "agp", phrases=source)
    assert done.exit_code == 0, done.output


@pytest.mark.slow
def test_a_mark_of_leakage_is_inherited(toy_cohort, pretrained, tmp_path):
    model = tmp_path / "marked"
    model.mkdir()
    for each in pretrained.iterdir():
        (model / each.name).write_bytes(each.read_bytes())
    weights, config = checkpoints.load(model / "model.safetensors")
    config["record"]["leakage"] = True
    checkpoints.save(model / "model.safetensors", weights, config)
    assert leakage.new_record([], model, leakage=False) == {
        "subjects": record(pretrained)["subjects"],
        "key": KEY.name,
        "leakage": True,
    }


@pytest.mark.slow
def test_a_start_without_training_subjects_in_its_record_is_warned_of(pretrained, tmp_path, caplog):
    weights, config = checkpoints.load(pretrained / "model.safetensors")
    checkpoints.save(tmp_path / "model.safetensors", weights, config | {"record": {"step": 1}})
    assert leakage.check(leakage.with_model({"val": []}, tmp_path), False, "") is False
    assert "does not record its training subjects" in caplog.text


def test_a_patient_in_two_parts_is_counted_once_and_named():
    def part(*names):
        return [Example(f"{names}{n}", "x", 1, 1, name) for n, name in enumerate(names)]

    leaks = leakage.between({"train": part("a", "b", "b"), "val": part("c"), "test": part("b", "c", None)})
    assert [str(each) for each in leaks] == [
        "1 subject is in both training and test (first: record 1 of test)",
        "1 subject is in both validation and test (first: record 2 of test)",
    ]


def test_an_image_of_an_unnamed_patient_is_known_by_itself(tmp_path):
    named, nameless = Example("i1", "x", 1, 1, "a"), Example("i1", "x", 1, 1, None)
    (leak,) = leakage.between({"train": [named], "test": [nameless]})
    assert str(leak) == "1 subject is in both training and test (first: record 1 of test)"
    (leak,) = leakage.between({"train": [nameless], "test": [named]})
    assert str(leak) == "1 subject is in both training and test (first: record 1 of test)"
    for seen, judged in ((named, nameless), (nameless, named)):
        config = {"record": leakage.new_record([seen], None, False)}
        checkpoints.save(tmp_path / "model.safetensors", {}, config)
        assert [each.count for each in leakage.with_model({"test": [judged]}, tmp_path)] == [1]


def test_a_record_of_an_older_version_still_names_its_training_patients(tmp_path):
    """It had the image only where no subject was known."""
    config = {"record": unkeyed("a", "i2")}
    checkpoints.save(tmp_path / "model.safetensors", {}, config)
    judged = [Example("i1", "x", 1, 1, "a"), Example("i2", "x", 1, 1, "b"), Example("i3", "x", 1, 1, "c")]
    assert [str(each).split("(")[1] for each in leakage.with_model({"val": judged}, tmp_path)] == [
        "first: record 1 of validation)"
    ]
    assert next(leakage.with_model({"val": judged}, tmp_path)).count == 2


def test_all_images_of_a_patient_are_left_out_whichever_record_names_them():
    images = [Example(f"i{n}", "x", 1, 1, name) for n, name in enumerate(["a", "a", "b", None, ""])]
    left = [["i2", "i3", "i4"], ["i0", "i1", "i3", "i4"], ["i0", "i1", "i2", "i4"], ["i2", "i3", "i4"]]
    held = [Example("i0", "x", 1, 1, None), images[2], images[3], Example("new", "x", 1, 1, "a")]
    for out, kept in zip(held, left, strict=True):
        assert [each.image_id for each in leakage.without(images, [out])] == kept
