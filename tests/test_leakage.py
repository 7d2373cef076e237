"""Whom a model has seen: its record, what is refused, and what marks it."""

from toy_runs import digests, finetune, lines, pretrain, record, write

from medground import checkpoints, leakage, subjects
from medground.data.examples import Example


def test_the_record_names_all_patients_that_were_trained_on_and_no_others(toy_films, pretrained, tmp_path):
    before = {each["subject_id"] for each in lines(toy_films.pairs)}
    assert record(pretrained)["subjects"] == digests(before)
    new = [each | {"subject_id": f"p{n + 50}"} for n, each in enumerate(lines(toy_films.phrases))]
    source = write(tmp_path / "new.jsonl", new)
    done = finetune(toy_films, tmp_path / "ft", "--init-from", pretrained, phrases=source)
    assert done.exit_code == 0, done.output
    names = {each[key] for each in new if each["split"] == "train" for key in ("subject_id", "image_id")}
    both = sorted({*digests(before), *map(subjects.digest_of, names)})
    assert record(tmp_path / "ft") == {"step": 2, "subjects": both}


def test_patients_that_the_start_has_seen_are_refused_or_mark_the_model(toy_films, pretrained, tmp_path):
    moved = [
        each | {"split": "test" if n < 2 else "train"} for n, each in enumerate(lines(toy_films.phrases))
    ]
    source = write(tmp_path / "moved.jsonl", moved)
    refused = finetune(toy_films, tmp_path / "ft", "--init-from", pretrained, phrases=source)
    assert refused.exit_code == 1
    assert "2 subjects are of test and among those that" in refused.stderr and "(first: p0)" in refused.stderr
    assert "--allow-leakage" in refused.stderr and not (tmp_path / "ft").exists()
    allowed = finetune(
        toy_films, tmp_path / "ft", "--init-from", pretrained, "--allow-leakage", phrases=source
    )
    assert allowed.exit_code == 0 and "(first: p0)" in allowed.stderr
    assert record(tmp_path / "ft")["leakage"] is True


def test_pretraining_leaves_out_whom_fine_tuning_will_be_judged_on(toy_films, tmp_path):
    split = ["test", "val", *["train"] * 20]
    phrases = [each | {"split": split[n]} for n, each in enumerate(lines(toy_films.phrases))]
    source = write(tmp_path / "phrases.jsonl", phrases)
    pretrain(toy_films, tmp_path / "agp", "--exclude-held-out", source)
    everyone = {each["subject_id"] for each in lines(toy_films.pairs)}
    assert record(tmp_path / "agp")["subjects"] == digests(everyone - {"p0", "p1"})
    done = finetune(toy_films, tmp_path / "ft", "--init-from", tmp_path / "agp", phrases=source)
    assert done.exit_code == 0, done.output


def test_a_mark_of_leakage_is_inherited(toy_films, pretrained, tmp_path):
    model = tmp_path / "marked"
    model.mkdir()
    for each in pretrained.iterdir():
        (model / each.name).write_bytes(each.read_bytes())
    weights, config = checkpoints.load(model / "model.safetensors")
    config["record"]["leakage"] = True
    checkpoints.save(model / "model.safetensors", weights, config)
    assert leakage.record([], model, leakage=False) == {
        "subjects": record(pretrained)["subjects"],
        "leakage": True,
    }


def test_a_start_that_does_not_say_whom_it_has_seen_is_warned_of(pretrained, tmp_path, caplog):
    weights, config = checkpoints.load(pretrained / "model.safetensors")
    checkpoints.save(tmp_path / "model.safetensors", weights, config | {"record": {"step": 1}})
    assert leakage.refuse_leaks({"val": []}, tmp_path, allowed=False) is False
    assert "does not say whom it has seen" in caplog.text


def test_a_patient_in_two_parts_is_counted_once_and_named():
    def part(*names):
        return [Example(f"{names}{n}", "x", 1, 1, name) for n, name in enumerate(names)]

    leaks = leakage.between({"train": part("a", "b", "b"), "val": part("c"), "test": part("b", "c", None)})
    assert [str(each) for each in leaks] == [
        "1 subject is in both training and test (first: b)",
        "1 subject is in both validation and test (first: c)",
    ]


def test_an_image_of_an_unnamed_patient_is_known_by_itself(tmp_path):
    named, nameless = Example("i1", "x", 1, 1, "a"), Example("i1", "x", 1, 1, None)
    (leak,) = leakage.between({"train": [named], "test": [nameless]})
    assert str(leak) == "1 subject is in both training and test (first: i1)"
    (leak,) = leakage.between({"train": [nameless], "test": [named]})
    assert str(leak) == "1 subject is in both training and test (first: a)"
    for seen, judged in ((named, nameless), (nameless, named)):
        config = {"record": leakage.record([seen], None, False)}
        checkpoints.save(tmp_path / "model.safetensors", {}, config)
        assert [each.count for each in leakage.from_start({"test": [judged]}, tmp_path)] == [1]


def test_a_record_of_an_older_version_still_names_whom_it_has_seen(tmp_path):
    """It had the image only where no subject was known."""
    config = {"record": {"subjects": sorted(map(subjects.digest_of, ("a", "i2")))}}
    checkpoints.save(tmp_path / "model.safetensors", {}, config)
    judged = [Example("i1", "x", 1, 1, "a"), Example("i2", "x", 1, 1, "b"), Example("i3", "x", 1, 1, "c")]
    assert [str(each).split("(")[1] for each in leakage.from_start({"val": judged}, tmp_path)] == [
        "first: a)"
    ]
    assert next(leakage.from_start({"val": judged}, tmp_path)).count == 2


def test_all_images_of_a_patient_are_left_out_whichever_record_names_them():
    images = [Example(f"i{n}", "x", 1, 1, name) for n, name in enumerate(["a", "a", "b", None, ""])]
    left = [["i2", "i3", "i4"], ["i0", "i1", "i3", "i4"], ["i0", "i1", "i2", "i4"], ["i2", "i3", "i4"]]
    held = [Example("i0", "x", 1, 1, None), images[2], images[3], Example("new", "x", 1, 1, "a")]
    for out, kept in zip(held, left, strict=True):
        assert [each.image_id for each in leakage.without(images, [out])] == kept
