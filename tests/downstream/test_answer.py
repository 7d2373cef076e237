"""Heads for answers: the joint features, the loss, the training and the command."""

import json
from collections import Counter

import pytest
import squares
import torch
from click.testing import CliRunner

from medground import site_key
from medground.cli.main import cli
from medground.data.image_store import ImageStore
from medground.downstream import (
    answer_classes,
    answer_fit,
    answer_head,
    answer_inputs,
    answer_writer,
    decoded_text,
    question_table,
)
from medground.errors import MedgroundError
from medground.models import grounder, network
from medground.published import PARTS_SHARE_IMAGES
from medground.records import Question


def build(architecture="transvg", **more):
    torch.manual_seed(0)
    return grounder.build(
        "small",
        [*squares.TEXTS.values(), "left right yes no"],
        architecture=architecture,
        **{"image_size": squares.SIZE} | more,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    here = tmp_path_factory.mktemp("answer")
    squares.make(here)
    grounder.save(here / "model", build())
    return here


def run(folder, *args, questions=None, model=None):
    words = ["answer", str(questions or folder / "questions.jsonl"), "--images", str(folder)]
    return CliRunner().invoke(cli, [*words, "--model", str(model or folder / "model"), *map(str, args)])


def lines_of(result):
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def accuracy(found, folder, split="test"):
    true = {}
    for line in (folder / "questions.jsonl").read_text().splitlines():
        each = json.loads(line)
        true[each["image_id"], each["question_id"]] = each
    scored = [each for each in found if each.get("split") == split]
    right = [true[e["image_id"], e["question_id"]]["answer"].strip(".").lower() for e in scored]
    return sum(e["answer"].strip(".").lower() == r for e, r in zip(scored, right, strict=True)) / len(scored)


# Joint features


@pytest.mark.slow
@pytest.mark.parametrize(
    "architecture, norm",
    [("transvg", "pre"), ("transvg", "post"), ("mdetr", "pre"), ("mdetr", "post"), ("text-query", "pre")],
)
def test_joint_features_are_what_the_network_fuses(architecture, norm):
    model = build(architecture, norm=norm)
    own = model.network.eval()
    images, inside = torch.rand(2, 1, 32, 32), torch.ones(2, 1, 32, 32)
    ids, mask = model.tokenize(["on which side is the square?", "is it bright?"])
    encoded, tokens = own.encode_images(images, inside), own.encode_texts(ids, mask)
    given = (encoded.patches, encoded.visible, tokens, mask)
    with torch.no_grad():
        joint, fused = own.joint(*given), own.fuse(*given)
    if architecture == "transvg" or (architecture == "mdetr" and norm == "pre"):
        assert torch.allclose(own.present(joint)[:, 0], fused.present, atol=1e-5)
    assert joint.shape[0] == 2 and not torch.allclose(joint[0], joint[1])
    swapped = own.joint(encoded.patches.flip(0), encoded.visible.flip(0), tokens, mask)
    assert not torch.allclose(joint, swapped, atol=1e-4), "they depend on the image"


def test_an_architecture_without_a_joint_token_has_means_of_patches_and_tokens():
    patches, tokens = torch.rand(2, 5, 4), torch.rand(2, 3, 4)
    visible, mask = torch.rand(2, 5) > 0.3, torch.tensor([[True, True, False]] * 2)
    found = network.Network.joint(None, patches, visible, tokens, mask)
    for n in range(2):
        assert torch.allclose(found[n, :4], patches[n][visible[n]].mean(dim=0), atol=1e-6)
        assert torch.allclose(found[n, 4:], tokens[n, :2].mean(dim=0), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["maps", "patches"])
def test_kept_feature_maps_or_patches_change_nothing(folder, kept):
    model = grounder.load(folder / "model")
    queried = [
        Question(image_id=f"i{n}", question_id="q", path=f"i{n}.png", text="is it?") for n in (0, 1, 0)
    ]
    store = ImageStore(folder, squares.SIZE)
    plain, keeping = (answer_inputs.Inputs(model, store, 16, keep=keep) for keep in (None, kept))
    with torch.no_grad():
        expected = plain.features(plain.batch(queried))
        first, second = (keeping.features(keeping.batch(queried)) for _ in range(2))
    assert torch.allclose(expected, first, atol=1e-6) and torch.equal(first, second)


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["maps", "patches"])
def test_what_is_kept_of_an_image_does_not_depend_on_the_images_before(folder, kept):
    model, store = build(image_size=160), ImageStore(folder, 160)  # rounding of smaller ones is the same
    model.network.eval()
    queried = [Question(image_id=f"i{n}", question_id="q", path=f"i{n}.png", text="is it?") for n in range(8)]
    found = []
    for before in (queried, queried[2:3]):
        inputs = answer_inputs.Inputs(model, store, 16, keep=kept)
        with torch.no_grad():
            inputs.features(inputs.batch(before))
            found.append(inputs.features(inputs.batch(queried)))
    assert torch.equal(*found)


# Head and table


def test_the_loss_is_a_sum_over_classes():
    logits, classes = torch.randn(3, 4), torch.tensor([2, -1, 0])
    expected = 0.0
    for n in range(3):
        for k in range(4):
            probability = torch.sigmoid(logits[n, k])
            expected -= torch.log(probability if classes[n] == k else 1 - probability) / 3
    assert torch.allclose(answer_classes.loss(logits, classes), expected, atol=1e-5)


def test_the_learning_rate_rises_and_falls_to_zero():
    plan = answer_fit.Plan(warmup_ratio=0.1)
    factors = [plan.lr_factor(step, 100) for step in range(100)]
    assert factors[:10] == pytest.approx([(n + 1) / 10 for n in range(10)])
    assert factors[9] == max(factors) and factors[-1] == pytest.approx(1 / 90)
    assert factors[10:] == sorted(factors[10:], reverse=True)


def question(n, answer="yes", split="train", **more):
    return Question(
        image_id=f"i{n}", question_id=f"q{n}", path="x", text="?", answer=answer, split=split, **more
    )


def test_classes_are_distinct_training_answers_in_their_commonest_spelling():
    found = question_table.classes_of(
        [question(n, a) for n, a in enumerate(["Yes", "yes.", "Yes", "The PA"])]
    )
    assert (found.names, found.shown) == (["pa", "yes"], ["The PA", "Yes"])
    assert found.index([question(0, "YES"), question(1, "unseen"), question(2, "pa")]) == [1, -1, 0]


def test_images_in_two_parts_are_refused_unless_the_published_split_has_them(caplog):
    parts = [question(0), question(1, split="val"), question(2, split="test")]
    shared = [*parts, Question(image_id="i0", question_id="z", path="x", text="?", answer="no", split="test")]
    with pytest.raises(MedgroundError, match="1 subject is in both training and test"):
        question_table.of(shared)
    assert question_table.of(shared, allow_leakage=True).leaks
    rule = f"VQA-RAD phrase_type; {PARTS_SHARE_IMAGES}"
    rad = [Question(**{name: getattr(e, name) for name in e.__slots__} | {"split_by": rule}) for e in shared]
    assert not question_table.of(rad).leaks
    assert "1 of 2 test images are training images too" in caplog.text
    with pytest.raises(MedgroundError, match="no question is of val"):
        question_table.of([parts[0], parts[2]])


# The command


@pytest.mark.slow
def test_a_head_learns_and_is_better_than_the_question_only_baseline(folder, tmp_path):
    args = ("--freeze", "all", "--layer", "visual", "--epochs", 30, "--seeds", 2)
    result = run(folder, *args, "-o", tmp_path / "own.jsonl")
    assert result.exit_code == 0, result.stderr
    blank = run(folder, *args, "--blank-images", "-o", tmp_path / "blank.jsonl")
    assert blank.exit_code == 0, blank.stderr
    truth = folder / "questions.jsonl"
    words = [
        "evaluate",
        f"{tmp_path}/own.jsonl",
        "--truth",
        f"{truth}",
        "--train",
        f"{truth}",
        "--split",
        "test",
    ]
    words += ["--compare", f"{tmp_path}/blank.jsonl", "--protocol", "answers", "--bootstrap-samples", "200"]
    scored = lines_of(CliRunner().invoke(cli, words))
    found = {each["metric"]: each for each in scored if each["group"] == "all"}
    assert found["accuracy"]["value"] > 0.75 and found["reachable"]["value"] == 1
    assert found["difference_accuracy"]["low"] > 0 and found["gain_accuracy"]["low"] > 0
    first = json.loads((tmp_path / "blank.jsonl").read_text().splitlines()[0])
    assert first["blank_images"] is True and first["head"] == "classes"


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["attention", "encoder"])
def test_a_head_with_attention_learns_over_a_frozen_network_and_from_its_maps(folder, tmp_path, layer):
    args = ["--freeze", "all", "--layer", layer, "--epochs", 15, "--head-lr", "3e-3"]
    own = lines_of(run(folder, *args, "--save-head", tmp_path / "head"))
    assert accuracy(own, folder) > 0.7
    reuse = ("--head", tmp_path / "head", "--allow-leakage", "--feature-maps", tmp_path / "maps")
    again = {(e["image_id"], e["question_id"]): e["answer"] for e in lines_of(run(folder, *reuse))}
    assert sum(again[e["image_id"], e["question_id"]] == e["answer"] for e in own) >= len(own) - 1


@pytest.mark.slow
def test_maps_of_an_image_encoder_that_changes_are_refused(folder, tmp_path):
    refused = run(folder, "--feature-maps", tmp_path / "maps", "--freeze", "visual")
    assert refused.exit_code == 2 and "needs --freeze image-encoder" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [(), ("image-encoder",)])
def test_a_trained_network_is_kept_with_its_head(folder, tmp_path, frozen):
    args = ["--epochs", 2, "--lr", "1e-3", "--save-head", tmp_path / "head.safetensors"]
    args += [word for part in frozen for word in ("--freeze", part)]
    result = run(folder, *args, "-o", tmp_path / "fitted.jsonl")
    assert result.exit_code == 0, result.stderr
    held = answer_head.load(tmp_path / "head.safetensors")
    kept = {name.split(".")[1] for name in held.runs[0].weights if name.startswith("network.")}
    assert ("image_encoder" in kept) is not bool(frozen) and {"fusion", "text_encoder", "reg"} <= kept
    assert "box" not in kept and "present" not in kept
    before = (folder / "model" / "model.safetensors").read_bytes()
    again = run(folder, *args, "-o", tmp_path / "again.jsonl")
    assert again.exit_code == 0, again.stderr
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "fitted.jsonl").read_bytes()
    reuse = ("--head", tmp_path / "head.safetensors")
    assert "60 subjects are in both the questions and the training of --head" in run(folder, *reuse).stderr
    reused = lines_of(run(folder, *reuse, "--allow-leakage"))
    new = {(e["image_id"], e["question_id"]): e["answer"] for e in reused}
    for line in (tmp_path / "fitted.jsonl").read_text().splitlines():
        each = json.loads(line)
        assert new[each["image_id"], each["question_id"]] == each["answer"]
    assert {e["image_id"] for e in reused if e.get("leakage")} == {f"i{n}" for n in range(100) if n % 5 < 3}
    assert (folder / "model" / "model.safetensors").read_bytes() == before
    other = run(folder, *args, "--epochs", 3)
    assert other.exit_code == 1 and "heads of another epochs" in other.stderr


@pytest.mark.slow
def test_an_interrupted_training_is_continued_with_the_missing_seeds(folder, tmp_path):
    args = ("--freeze", "all", "--epochs", 2)
    whole = run(folder, *args, "--seeds", 2, "--save-head", tmp_path / "whole.safetensors")
    part = run(folder, *args, "--seeds", 1, "--save-head", tmp_path / "part.safetensors")
    assert lines_of(part) == lines_of(whole)[:80]
    rest = run(folder, *args, "--seeds", 2, "--save-head", tmp_path / "part.safetensors")
    assert rest.stdout == whole.stdout
    assert (tmp_path / "part.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


@pytest.mark.slow
def test_a_training_on_other_images_is_not_continued(folder, tmp_path):
    args = ("--freeze", "all", "--epochs", 1, "--save-head", tmp_path / "head.safetensors")
    assert run(folder, *args).exit_code == 0
    other = tmp_path / "other"
    other.mkdir()
    for image in folder.glob("*.png"):
        (other / image.name).write_bytes(image.read_bytes() + b"\0")
    refused = run(folder, *args, "--seeds", 2, "--images", other)
    assert refused.exit_code == 1 and "heads of another images" in refused.stderr


@pytest.mark.slow
def test_bad_questions_have_one_message_each_and_the_others_are_kept(folder, tmp_path):
    lines = [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]
    (folder / "damaged.png").write_bytes(b"no image")
    changes = {
        "split: expected train, val or test": {"split": "dev"},
        "answer: a training or validation question without an answer": {"answer": None},
        "text: an empty question": {"text": "  "},
        "path: no readable image": {"path": "none.png"},
        "path: no readable image at": {"path": "damaged.png"},
        "question_id: the second question": {"question_id": "side"},
    }
    bad = [lines[0] | {"question_id": "new"} | change for change in changes.values()]
    questions = squares.write(tmp_path / "questions.jsonl", [*lines, *bad])
    args = ("--freeze", "all", "--epochs", 1)
    result = run(folder, *args, questions=questions)
    assert result.exit_code == 1 and "questions.jsonl:201: split: " in result.stderr
    kept = run(folder, *args, "--rejects", tmp_path / "bad.jsonl", questions=questions)
    assert len(lines_of(kept)) == 80
    for number, problem in enumerate(changes, start=201):
        assert f"questions.jsonl:{number}: {problem}" in kept.stderr
    assert [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()] == bad


@pytest.mark.slow
def test_what_is_cut_left_out_or_unreachable_is_counted(folder, tmp_path):
    lines = [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]
    last = lines[-1]
    lines += [last | {"question_id": "new", "answer": "blue", "text": "is it bright " * 40}]
    lines += [last | {"question_id": "two", "question_type": "difference", "answer": "it moved"}]
    questions = squares.write(tmp_path / "questions.jsonl", lines)
    result = run(folder, "--freeze", "all", "--epochs", 1, "--blank-images", questions=questions)
    assert len(lines_of(result)) == 81
    assert "1 of 41 test questions (2.4 %) have an answer that no training question has" in result.stderr
    assert "1 of 201 questions are longer than" in result.stderr
    assert "1 questions about a difference of two images are left out" in result.stderr


@pytest.mark.slow
def test_heads_of_another_model_and_other_files_are_refused(folder, tmp_path):
    assert run(folder, "--head", tmp_path / "none").exit_code == 2
    weights = folder / "model" / "model.safetensors"
    other = tmp_path / "other.safetensors"
    other.write_bytes(weights.read_bytes())
    assert "not a head of medground answer" in run(folder, "--head", other).stderr
    head = tmp_path / "head.safetensors"
    lines_of(run(folder, "--freeze", "all", "--epochs", 1, "--save-head", head))
    grounder.save(tmp_path / "model", build(width=32))
    refused = run(folder, "--head", head, model=tmp_path / "model")
    assert refused.exit_code == 1 and "heads of another model" in refused.stderr


@pytest.mark.slow
def test_images_that_the_model_was_trained_on_are_refused(folder, tmp_path):
    key = site_key.find_or_create()
    record = {"subjects": sorted({key.digest("i4")}), "key": key.name}
    grounder.save(tmp_path / "trained", grounder.load(folder / "model"), record)
    args = ("--freeze", "all", "--epochs", 1)
    result = run(folder, *args, model=tmp_path / "trained")
    assert result.exit_code == 1 and "1 subject is in both test and the training data of" in result.stderr
    allowed = lines_of(run(folder, *args, "--allow-leakage", model=tmp_path / "trained"))
    assert all(each["leakage"] for each in allowed)


# The writer


def writing(folder, lines, **how):
    from medground.data.image_store import ImageStore
    from medground.objectives.writer import Writer

    model = grounder.load(folder / "model")
    inputs = answer_inputs.Inputs(
        model, ImageStore(folder, squares.SIZE), 32, layer=answer_inputs.VISUAL, **how
    )
    queried = [
        Question(**{k: each[k] for k in ("image_id", "question_id", "path", "text", "answer")})
        for each in lines
    ]
    torch.manual_seed(0)
    return answer_writer.WriterTask(inputs, Writer(model).eval(), queried, queried)


def squares_lines(folder):
    return [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]


def test_the_loss_of_the_writer_is_that_of_the_answer_tokens(folder):
    task = writing(folder, squares_lines(folder)[:3])
    total, count = 0.0, 0
    for number, each in enumerate(task.train):
        tokenizer = task.inputs.model.tokenizer
        prefix = tokenizer(each.text)["input_ids"]
        wanted = tokenizer(each.answer.strip(".").lower())["input_ids"][1:]
        memory = task.inputs.visual_tokens(task.inputs.batch([task.train[number]]))
        for token in wanted:
            logits = task.head.logits(torch.tensor([prefix]), *memory)[0, -1]
            total -= logits.log_softmax(dim=0)[token].item()
            prefix, count = [*prefix, token], count + 1
    with torch.no_grad():
        assert task.loss([0, 1, 2]).item() == pytest.approx(total / count, rel=1e-4)


@pytest.mark.slow
def test_a_decoded_answer_has_the_most_probable_token_each_time(folder):
    task = writing(folder, squares_lines(folder)[:3])
    found = answer_writer.written(task.inputs, task.head, task.train, 2)
    tokenizer = task.inputs.model.tokenizer
    for each, text in zip(task.train, found, strict=True):
        ids = tokenizer(each.text)["input_ids"]
        end, first = ids[-1], len(ids)
        memory = task.inputs.visual_tokens(task.inputs.batch([each]))
        while len(ids) - first < answer_writer.MOST_TOKENS:
            logits = task.head.logits(torch.tensor([ids]), *memory)[0, -1]
            logits[[tokenizer.pad_token_id, tokenizer.unk_token_id]] = -torch.inf
            if (token := int(logits.argmax())) == end:
                break
            ids.append(token)
        assert text == decoded_text.words_of(tokenizer, ids[first:])


@pytest.mark.slow
def test_a_writer_is_kept_and_used_again(folder, tmp_path):
    args = ["--head-type", "text", "--freeze", "all", "--epochs", 1]
    own = lines_of(run(folder, *args, "--save-head", tmp_path / "head.safetensors"))
    assert {each["head"] for each in own} == {"text"} and "score" not in own[0]
    reused = lines_of(run(folder, "--head", tmp_path / "head.safetensors", "--allow-leakage"))
    new = {(e["image_id"], e["question_id"]): e["answer"] for e in reused}
    assert all(new[e["image_id"], e["question_id"]] == e["answer"] for e in own)


@pytest.mark.slow
def test_a_writer_learns_to_write_the_answers_about_different_images(folder):
    task = writing(folder, squares_lines(folder)[:16], keep="patches")
    task.inputs.model.network.requires_grad_(False)
    optimizer = torch.optim.AdamW(task.head.train().parameters(), lr=1e-3)
    for _ in range(110):
        optimizer.zero_grad()
        task.loss(range(16)).backward()
        optimizer.step()
    task.head.eval()
    with torch.no_grad():
        assert task.validate(16)[0] > 0.9
    by_question = Counter((each.text, each.answer) for each in task.train)
    most = sum(
        max(n for (text, _), n in by_question.items() if text == own) for own in squares.TEXTS.values()
    )
    assert most / 16 < 0.8, "the question does not tell the answer"
