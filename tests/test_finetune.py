"""finetune as its user meets it: who is shown, what stays, what is asked beside the phrases."""

import json
import os
import signal
import tomllib
from pathlib import Path

import pytest
import torch
import toy
from click.testing import CliRunner
from conftest import ROOT
from safetensors.torch import load_file

from medground import checkpoints, subjects
from medground.cli.main import cli
from medground.models import encoders
from medground.models.config import SMALL_IMAGE_ENCODER, SMALL_TEXT_ENCODER
from medground.records import Anatomy, Pair, Phrase, Region, Triplet
from medground.training import audit, examples, loop, rehearsal
from medground.training.batches import Batches, Plan
from medground.training.examples import Example, Query
from medground.training.freezing import PARTS

CONFIGS = sorted((ROOT / "examples" / "configs").glob("*.toml"))


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> toy.Toy:
    return toy.make(tmp_path_factory.mktemp("toy"))


def run(*args: object):
    return CliRunner().invoke(cli, [str(each) for each in args])


def finetune(films: toy.Toy, folder: Path, *flags: object, phrases: object = None, steps: object = 2):
    return run(
        "finetune", phrases or films.phrases, "--images", films.folder, "-o", folder,
        "--steps", steps, "--batch", 2, "--save-every", 2, "--device", "cpu", *flags,
    )  # fmt: skip


def pretrain(films: toy.Toy, folder: Path, *flags: object):
    done = run(
        "pretrain", films.pairs, "--images", films.folder, "-o", folder, "--steps", 1, "--batch", 2,
        "--device", "cpu", *flags,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def pretrained(films, tmp_path_factory) -> Path:
    return pretrain(films, tmp_path_factory.mktemp("run") / "agp")


def record(folder: Path) -> dict:
    return checkpoints.read_config(folder / "model.safetensors")["record"]


def lines(path: object) -> list[dict]:
    return [json.loads(line) for line in Path(str(path)).read_text().splitlines()]


def write(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in records))
    return path


def digests(names) -> list[str]:
    return sorted(map(subjects.digest_of, names))


# Who has been seen


def test_the_record_names_all_patients_that_were_trained_on_and_no_others(films, pretrained, tmp_path):
    before = {each["subject_id"] for each in lines(films.pairs)}
    assert record(pretrained)["subjects"] == digests(before)
    new = [each | {"subject_id": f"new{n}"} for n, each in enumerate(lines(films.phrases))]
    source = write(tmp_path / "new.jsonl", new)
    done = finetune(films, tmp_path / "ft", "--from", pretrained, phrases=source)
    assert done.exit_code == 0, done.output
    trained = {each["subject_id"] for each in new if each["split"] == "train"}
    assert record(tmp_path / "ft") == {"step": 2, "subjects": digests(before | trained)}


def test_patients_that_the_start_has_seen_are_refused_or_mark_the_model(films, pretrained, tmp_path):
    moved = [each | {"split": "test" if n < 2 else "train"} for n, each in enumerate(lines(films.phrases))]
    source = write(tmp_path / "moved.jsonl", moved)
    refused = finetune(films, tmp_path / "ft", "--from", pretrained, phrases=source)
    assert refused.exit_code == 1
    assert "2 subjects are of test and among those that" in refused.stderr and "(first: p0)" in refused.stderr
    assert "--allow-leakage" in refused.stderr and not (tmp_path / "ft").exists()
    allowed = finetune(films, tmp_path / "ft", "--from", pretrained, "--allow-leakage", phrases=source)
    assert allowed.exit_code == 0 and "(first: p0)" in allowed.stderr
    assert record(tmp_path / "ft")["leakage"] is True


def test_pretraining_leaves_out_whom_fine_tuning_will_be_judged_on(films, tmp_path):
    split = ["test", "val", *["train"] * 20]
    phrases = [each | {"split": split[n]} for n, each in enumerate(lines(films.phrases))]
    source = write(tmp_path / "phrases.jsonl", phrases)
    pretrain(films, tmp_path / "agp", "--leave-out", source)
    everyone = {each["subject_id"] for each in lines(films.pairs)}
    assert record(tmp_path / "agp")["subjects"] == digests(everyone - {"p0", "p1"})
    done = finetune(films, tmp_path / "ft", "--from", tmp_path / "agp", phrases=source)
    assert done.exit_code == 0, done.output


def test_a_mark_of_leakage_is_inherited(films, pretrained, tmp_path):
    model = tmp_path / "marked"
    model.mkdir()
    for each in pretrained.iterdir():
        (model / each.name).write_bytes(each.read_bytes())
    weights, config = checkpoints.load(model / "model.safetensors")
    config["record"]["leakage"] = True
    checkpoints.save(model / "model.safetensors", weights, config)
    assert audit.record([], model, leakage=False) == {
        "subjects": record(pretrained)["subjects"],
        "leakage": True,
    }


def test_a_start_that_does_not_say_whom_it_has_seen_is_warned_of(pretrained, tmp_path, caplog):
    weights, config = checkpoints.load(pretrained / "model.safetensors")
    checkpoints.save(tmp_path / "model.safetensors", weights, config | {"record": {"step": 1}})
    assert audit.refuse_leaks({"val": []}, tmp_path, allowed=False) is False
    assert "does not say whom it has seen" in caplog.text


def test_a_patient_in_two_parts_is_counted_once_and_named():
    def part(*names):
        return [Example(f"i{n}", "x", 1, 1, name) for n, name in enumerate(names)]

    leaks = audit.between({"train": part("a", "b", "b"), "val": part("c"), "test": part("b", "c", None)})
    assert [str(each) for each in leaks] == [
        "1 subject is in both training and test (first: b)",
        "1 subject is in both validation and test (first: c)",
    ]


# Splits


def test_a_fold_is_held_out_and_written_for_scoring(films, tmp_path):
    seen = []
    for fold in (1, 2, 3):
        folder, held = tmp_path / f"run{fold}", tmp_path / f"held{fold}.jsonl"
        done = finetune(films, folder, "--folds", 3, "--fold", fold, "--held-out", held, steps=1)
        assert done.exit_code == 0, done.output
        tested = {each["subject_id"] for each in lines(held)}
        assert not set(digests(tested)) & set(record(folder)["subjects"])
        seen += sorted(tested)
    assert sorted(seen) == sorted(each["subject_id"] for each in lines(films.phrases))


def test_a_list_of_subjects_is_held_out(films, tmp_path):
    (tmp_path / "test.txt").write_text("p0\np1\n")
    done = finetune(films, tmp_path / "ft", "--test-subjects", tmp_path / "test.txt")
    assert done.exit_code == 0, done.output
    assert record(tmp_path / "ft")["subjects"] == digests(["p2", "p4", "p5", "p6", "p8", "p9", "p10"])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--folds", 3], "go together"),
        (["--fold", 1], "go together"),
        (["--folds", 3, "--fold", 4], "from 1 to K"),
        (["--few", 3, "--fraction", 0.5], "not both"),
        (["--anatomy", __file__], "give the pairs too"),
        (["--objective", "taco"], "give --objective agp too"),
        (["--folds", 3, "--fold", 1, "--val-subjects", __file__], "not both"),
        (["--fraction", 0], "not in the range"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_anything_is_read(films, tmp_path, flags, said):
    done = finetune(films, tmp_path / "ft", *flags, phrases="-")
    assert (done.exit_code, said in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "ft").exists()


def test_epochs_become_steps(films, tmp_path):
    done = run(
        "finetune", films.phrases, "--images", films.folder, "-o", tmp_path / "ft", "--batch", 4,
        "--epochs", 1, "--device", "cpu",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert tomllib.loads((tmp_path / "ft" / "config.toml").read_text())["steps"] == 3  # 9 images, 4 a step


# Frozen parts


@pytest.mark.parametrize("parts", [["image-encoder"], ["text-encoder", "visual"], list(PARTS)])
def test_frozen_parts_keep_every_byte_and_the_others_move(films, pretrained, tmp_path, parts):
    flags = [word for part in parts for word in ("--freeze", part)]
    done = finetune(films, tmp_path / "ft", "--from", pretrained, *flags, "--weight-decay", 0.1)
    assert done.exit_code == 0, done.output
    before, after = (load_file(each / "model.safetensors") for each in (pretrained, tmp_path / "ft"))
    frozen = tuple(f"{name}." for part in parts for name in PARTS[part])
    others = [name for part in PARTS.keys() - set(parts) for name in PARTS[part]]
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith(frozen))
    for part in (*others, "fusion", "box"):
        own = [name for name in before if name.startswith(f"{part}.")]
        assert any(not torch.equal(before[name], after[name]) for name in own), part


def test_a_frozen_part_without_a_start_keeps_its_norms_statistics(films, tmp_path):
    done = finetune(films, tmp_path / "ft", "--freeze", "image-encoder")
    assert done.exit_code == 0, done.output
    after = load_file(tmp_path / "ft" / "model.safetensors")
    means = [
        each for name, each in after.items() if name.startswith("image_encoder") and "running_mean" in name
    ]
    assert means and not any(each.any() for each in means)  # as they were built


# Rehearsal and denials


def pair(image: str, text: str, existence: str, finding: str = "pneumothorax", subject: str = "a") -> Pair:
    triplet = Triplet(
        region="left lung",
        finding=finding,
        existence=existence,
        finding_span=(0, 1),
        region_span=None,
        cue=None,
        cue_span=None,
        region_source="explicit",
        rule="x",
    )
    return Pair(
        image_id=image,
        study_id=image,
        subject_id=subject,
        sentence_id=f"{image}|0",
        path=f"{image}.png",
        width=100,
        height=100,
        text=text,
        regions=["left lung"],
        region_boxes=[(50, 10, 90, 90)],
        box=(50, 10, 90, 90),
        triplets=[triplet],
        rule="S1",
    )


PAIRS = [
    pair("i1", "No pneumothorax.", "absent"),
    pair("i1", "Left lung opacity.", "present", "lung opacity"),
    pair("i2", "Pneumothorax.", "present", subject="b"),
    pair("i2", "No other pneumothorax.", "absent", subject="b"),
    pair("i3", "Pneumothorax.", "present", subject="c"),
]
PHRASE = Phrase(
    image_id="i1",
    phrase_id="1",
    subject_id="a",
    path="i1.png",
    text="left lung opacity",
    boxes=[(50, 10, 90, 90)],
    width=100,
    height=100,
)


def test_patients_who_are_held_out_are_not_rehearsed():
    held = [PHRASE, Phrase(image_id="i9", phrase_id="9", subject_id="c", path="x", text="t")]
    found = rehearsal.rehearse(PAIRS, None, held[1:])
    assert {each.subject_id for each in found} == {"a", "b"}
    region = Region(name="left lung", box=(50.0, 10.0, 90.0, 90.0))
    anatomies = [
        Anatomy(image_id=f"i{n}", subject_id=name, path="x", width=100, height=100, regions=[region])
        for n, name in ((1, "a"), (4, "d"))
    ]
    found = rehearsal.rehearse(PAIRS, anatomies, held)
    assert {(each.subject_id, len(each.terms)) for each in found} == {("b", 0), ("d", 1)}


def test_a_finding_is_denied_where_the_report_denies_and_nowhere_affirms_it():
    one, two, three = rehearsal.rehearse(PAIRS, None, [])
    assert [rehearsal.denied(each) for each in (one, two, three)] == [("pneumothorax",), (), ()]
    assert [(q.texts[0], len(q.boxes), q.denials) for q in one.sentences] == [
        ("No pneumothorax.", 0, ()),
        ("Left lung opacity.", 1, ("pneumothorax",)),
    ]


def test_a_phrase_gets_its_negated_forms_and_what_its_report_denies():
    [example] = examples.from_phrases([PHRASE], examples.Sizes(Path()))
    rehearsal.deny([example], rehearsal.rehearse(PAIRS, None, []))
    [query] = example.sentences
    assert {"no left lung opacity", "left lung opacity is not seen", "pneumothorax"} <= set(query.denials)
    [unreported] = examples.from_phrases([PHRASE], examples.Sizes(Path()))
    rehearsal.deny([unreported], [])
    assert set(unreported.sentences[0].denials) == set(query.denials) - {"pneumothorax"}


def test_what_a_phrase_names_is_not_denied_whatever_the_report_says():
    [example] = examples.from_phrases([PHRASE], examples.Sizes(Path()))
    rehearsal.deny([example], rehearsal.rehearse([pair("i1", "Clear.", "absent", "lung opacity")], None, []))
    assert "lung opacity" not in example.sentences[0].denials


class Films:
    size = 32

    def get(self, path):
        import numpy as np

        from medground.boxes import Letterbox
        from medground.models.film import Film

        return Film(np.full((32, 32), int(path), dtype=np.uint8), Letterbox(100, 80, 32))


def spelled(texts):
    """Ids that give each text back."""
    ids = torch.tensor([[int.from_bytes(text.encode())] for text in texts])
    return ids, torch.ones_like(ids, dtype=torch.bool)


def asked(batch) -> list[tuple[int, str, int]]:
    """(image row, text, number of boxes) of each pair."""
    texts = [int(each).to_bytes(8).strip(b"\0").decode() for each in batch.ids[:, 0]]
    counts = torch.bincount(batch.box_of, minlength=len(batch.image_of)).tolist()
    rows = zip(batch.image_of.tolist(), batch.text_of.tolist(), counts, strict=True)
    return [(image, texts[text], count) for image, text, count in rows]


def test_a_step_has_images_to_rehearse_beside_those_of_phrases():
    def made(first, sentences):
        return [Example(f"i{n}", str(n), 100, 80, None, [], sentences(n)) for n in range(first, first + 5)]

    learned = made(0, lambda n: [Query((f"x{n}",), ((9, 9, 40, 40),), (f"no{n}",))])
    old = made(100, lambda n: [Query((f"y{n}-{m}",), ()) for m in range(3)])
    beside = Batches(old, Films(), spelled, Plan(images=2, sentences=2, seed=1))
    batches = Batches(learned, Films(), spelled, Plan(images=3, negatives=0.5, views="none"), beside)
    rows, negated = [], 0
    for step in range(40):
        batch = batches.at(step)
        assert batch.pictures.shape[0] == 5
        rows = asked(batch)
        for image in (3, 4):
            assert [(text[0], count) for row, text, count in rows if row == image] == [("y", 0)] * 2
        for image in (0, 1, 2):
            own = [(text, count) for row, text, count in rows if row == image]
            assert (own[0][0][0], own[0][1]) == ("x", 1)
            assert own[1:] in ([], [(f"no{own[0][0][1:]}", 0)])
            negated += len(own) - 1
    assert 40 < negated < 80  # half of 120


def test_rehearsal_goes_on_where_it_was_stopped(films, pretrained, tmp_path, monkeypatch):
    flags = [
        "--from",
        pretrained,
        "--rehearse",
        films.pairs,
        "--anatomy",
        films.anatomy,
        "--rehearse-images",
        1,
    ]
    whole = finetune(films, tmp_path / "whole", *flags, steps=3)
    assert whole.exit_code == 0, whole.output
    assert not set(record(tmp_path / "whole")["subjects"]) & set(
        digests(["p3", "p7", "p11"])
    )  # they validate
    real_step, calls = loop._step, []

    def step_and_ask(*args):
        calls.append(1)
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGUSR1)
        return real_step(*args)

    monkeypatch.setattr(loop, "_step", step_and_ask)
    assert finetune(films, tmp_path / "part", *flags, steps=3).exit_code == 75
    assert finetune(films, tmp_path / "part", *flags, steps=3).exit_code == 0
    for name in ("model.safetensors", "resume.safetensors"):
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


# Objectives and configs


def test_with_taco_its_loss_is_logged_beside_the_others(films, tmp_path):
    done = finetune(films, tmp_path / "ft", "--objective", "agp", "--objective", "taco")
    assert done.exit_code == 0, done.output
    assert lines(tmp_path / "ft" / "metrics.jsonl")[0]["taco"] > 0


@pytest.fixture(scope="module")
def small_encoders(tmp_path_factory) -> list[object]:
    """Flags that put small encoders in the place of the published ones."""
    folder = tmp_path_factory.mktemp("encoders")
    tokenizer = encoders.build_tokenizer(["bright spot", "opacity in the right lung"])
    tokenizer.save_pretrained(folder / "text")
    size = {"vocab_size": len(tokenizer)}
    encoders.build_text_encoder(SMALL_TEXT_ENCODER | size).save_pretrained(folder / "text")
    encoders.build_image_encoder(SMALL_IMAGE_ENCODER).save_pretrained(folder / "image")
    return ["--image-encoder", folder / "image", "--text-encoder", folder / "text", "--size", "small"]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda each: each.stem)
def test_a_config_starts_a_run_with_all_its_settings(films, tmp_path, config, small_encoders):
    pretrains = "pretrain" in config.stem
    source = films.pairs if pretrains else films.phrases
    done = run(
        "pretrain" if pretrains else "finetune", source, "--images", films.folder, "--config", config,
        "-o", tmp_path / "run", "--steps", 1, "--batch", 2, "--device", "cpu", *small_encoders,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    wanted = tomllib.loads(config.read_text())
    used = tomllib.loads((tmp_path / "run" / "config.toml").read_text())
    overridden = {"size", "steps", "batch", "image_encoder", "text_encoder", "epochs", "multi_box", "weight"}
    assert {key: used[key] for key in wanted.keys() - overridden} == {
        key: wanted[key] for key in wanted.keys() - overridden
    }
    assert used["steps"] == 1
    for each in wanted.get("weight", ()):
        name, _, number = each.partition("=")
        assert used["weight"][name] == float(number)


def test_the_published_recipes_are_there():
    assert {each.stem for each in CONFIGS} == {"agp-pretrain", "agp-finetune", "medrpg", "mdetr"}
