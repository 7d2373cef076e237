"""Training as its user meets it: it learns, it goes on after any stop, and it refuses what it cannot use."""

import errno
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import signals
import torch
import toy
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file

from medground import checkpoints
from medground.boxes import Letterbox
from medground.cli.main import cli
from medground.data import augment, collate, splits
from medground.data.examples import Example, Query
from medground.data.image_store import ImageStore
from medground.errors import MedgroundError
from medground.models import grounder
from medground.models.letterboxed import LetterboxedImage
from medground.objectives import agp, saved_heads
from medground.records import Phrase
from medground.training import loop, validation


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> toy.Toy:
    return toy.make(tmp_path_factory.mktemp("toy"))


def run(*args: object):
    return CliRunner().invoke(cli, [str(each) for each in args])


def pretrain(films: toy.Toy, folder: Path, *flags: object, steps: int = 6):
    return run(
        "pretrain", films.pairs, "--anatomy", films.anatomy, "--images", films.folder, "-o", folder,
        "--steps", steps, "--batch-size", 2, "--save-every", 2, "--device", "cpu", *flags,
    )  # fmt: skip


def finetune(films: toy.Toy, folder: Path, *flags: object):
    return run(
        "finetune", films.phrases, "--images", films.folder, "-o", folder,
        "--steps", 4, "--batch-size", 2, "--save-every", 2, "--device", "cpu", *flags,
    )  # fmt: skip


@pytest.fixture(scope="module")
def pretrained(films, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "agp"
    result = pretrain(films, folder)
    assert result.exit_code == 0, result.output
    return folder


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_the_loss_falls_by_half(films, tmp_path):
    small = ("--batch-size", 4, "--augment", "none", "--image-size", 96)
    result = pretrain(films, tmp_path / "run", *small, "--lr", "1e-3", steps=90)
    assert result.exit_code == 0, result.output
    lines = [line["loss"] for line in metrics(tmp_path / "run")]
    pretrain(films, tmp_path / "one", *small, steps=1)
    assert lines[-1] < metrics(tmp_path / "one")[0]["loss"] / 2


@pytest.mark.slow
def test_a_run_folder_holds_what_the_documents_say(pretrained):
    names = {"config.toml", "metrics.jsonl", "model.safetensors", "config.json", "resume.safetensors"}
    assert names | {"tokenizer.json"} <= {path.name for path in pretrained.iterdir()}
    assert not list(pretrained.glob("*.partial"))


@pytest.mark.slow
def test_stopped_and_started_again_ends_with_the_same_weights(films, pretrained, tmp_path, monkeypatch):
    real_step, calls = loop._step, []

    def step_and_ask(*args):
        calls.append(1)
        if len(calls) == 3:
            signals.deliver(signal.SIGUSR1)
        return real_step(*args)

    monkeypatch.setattr(loop, "_step", step_and_ask)
    stopped = pretrain(films, tmp_path / "run")
    assert stopped.exit_code == 75
    assert len(calls) == 3
    went_on = pretrain(films, tmp_path / "run")
    assert went_on.exit_code == 0
    assert len(calls) == 6
    for name in ("model.safetensors", "resume.safetensors", "metrics.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (pretrained / name).read_bytes(), name


@pytest.mark.slow
def test_a_finished_run_is_not_done_again(films, pretrained, monkeypatch):
    monkeypatch.setattr(loop, "_step", None)
    before = (pretrained / "model.safetensors").stat().st_mtime_ns
    assert pretrain(films, pretrained).exit_code == 0
    assert (pretrained / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_run_with_other_settings_is_refused_by_name(films, pretrained):
    result = pretrain(films, pretrained, "--lr", "0.1")
    assert result.exit_code == 1
    assert "another 'lr'" in result.stderr


@pytest.mark.slow
def test_a_run_with_other_settings_begins_anew_where_asked(films, pretrained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(pretrained, folder)
    assert pretrain(films, folder, "--overwrite").exit_code == 0  # the same settings: nothing to do
    assert (folder / "model.safetensors").read_bytes() == (pretrained / "model.safetensors").read_bytes()
    assert pretrain(films, folder, "--lr", "0.1", "--overwrite").exit_code == 0
    assert metrics(folder)[-1]["step"] == 6
    assert (folder / "model.safetensors").read_bytes() != (pretrained / "model.safetensors").read_bytes()


@pytest.fixture
def both(films, tmp_path) -> Path:
    """The folder of a run with two objectives."""
    result = pretrain(films, tmp_path / "both", "--objective", "agp", "--objective", "asg", steps=1)
    assert result.exit_code == 0, result.output
    return tmp_path / "both"


@pytest.mark.slow
def test_a_run_with_another_objective_is_refused_and_its_config_stands(films, both):
    before = (both / "config.toml").read_bytes()
    result = pretrain(films, both, "--objective", "agp", "--objective", "gk-mvlp", steps=1)
    assert result.exit_code == 1
    assert "another 'objective' (['agp', 'asg'], not ['agp', 'gk-mvlp'])" in result.stderr
    assert (both / "config.toml").read_bytes() == before


@pytest.mark.slow
def test_a_run_keeps_the_heads_of_its_objectives(both):
    assert saved_heads.names_of(both) == ["agp", "asg"]
    assert set(saved_heads.load(both, grounder.load(both))) == {"agp", "asg"}


@pytest.mark.slow
def test_anew_forgets_a_run_whatever_it_held(films, both):
    again = ("--objective", "agp", "--objective", "gk-mvlp", "--overwrite")
    assert pretrain(films, both, *again, steps=1).exit_code == 0
    assert {"itc", "lm"} < metrics(both)[-1].keys() and len(metrics(both)) == 1
    (both / "resume.safetensors").write_bytes(b"damaged")
    refused = pretrain(films, both, *again[:-1], steps=1)
    assert (refused.exit_code, "damaged" in refused.stderr, "--overwrite" in refused.stderr) == (
        1,
        True,
        True,
    )
    assert pretrain(films, both, *again, steps=1).exit_code == 0
    (both / "config.toml").unlink()
    assert "without its config.toml" in pretrain(films, both, *again[:-1], steps=1).stderr
    assert pretrain(films, both, *again, steps=1).exit_code == 0


@pytest.mark.slow
def test_a_run_with_other_frozen_parts_is_refused_by_name(films, pretrained, tmp_path):
    frozen = ("--init-from", pretrained, "--freeze", "image-encoder")
    assert finetune(films, tmp_path / "ft", *frozen).exit_code == 0
    result = finetune(films, tmp_path / "ft", *frozen, "--freeze", "text-encoder")
    assert result.exit_code == 1 and "another 'freeze'" in result.stderr


@pytest.mark.slow
def test_moments_of_other_parameters_are_refused_in_one_line(films, pretrained, tmp_path):
    shutil.copytree(pretrained, tmp_path / "run")
    path = tmp_path / "run" / "resume.safetensors"
    tensors, config = checkpoints.load(path)
    tensors["optimizer.0.exp_avg"] = torch.zeros(3)
    checkpoints.save(path, tensors, config)
    (tmp_path / "run" / "config.toml").write_text((pretrained / "config.toml").read_text() + "\n")
    before = (tmp_path / "run" / "config.toml").read_bytes()
    result = pretrain(films, tmp_path / "run")
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert "resume.safetensors: the optimizer state does not fit this model (moment 0)" in result.stderr
    assert (tmp_path / "run" / "config.toml").read_bytes() == before


@pytest.mark.slow
def test_a_damaged_line_of_metrics_is_named(films, pretrained, tmp_path):
    shutil.copytree(pretrained, tmp_path / "run")
    with open(tmp_path / "run" / "metrics.jsonl", "a") as stream:
        stream.write('{"step": 6, "lo\n')
    number = len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    result = pretrain(films, tmp_path / "run")
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert f"metrics.jsonl:{number}: no JSON object with a step; delete the line" in result.stderr


@pytest.mark.slow
def test_a_loss_that_is_not_finite_leaves_the_last_checkpoint(films, tmp_path, monkeypatch):
    real_losses, calls = agp.losses, []

    def losses(*args):
        calls.append(1)
        parts = real_losses(*args)
        return parts | {"l1": parts["l1"] * float("nan")} if len(calls) == 4 else parts

    monkeypatch.setattr(agp, "losses", losses)
    result = pretrain(films, tmp_path / "run")
    assert result.exit_code == 1
    assert "step 4: the loss became nan" in result.stderr
    assert grounder.load(tmp_path / "run")


@pytest.mark.slow
def test_a_disk_that_fills_while_saving_loses_nothing(films, pretrained, tmp_path, monkeypatch):
    real_fsync, calls = os.fsync, []

    def fsync(number):
        calls.append(1)
        if len(calls) == 4:  # the second resume.safetensors
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real_fsync(number)

    monkeypatch.setattr(os, "fsync", fsync)
    result = pretrain(films, tmp_path / "run")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].endswith("No space left on device; the previous file was kept")
    assert not list((tmp_path / "run").glob("*.partial"))
    assert grounder.load(tmp_path / "run")
    assert pretrain(films, tmp_path / "run").exit_code == 0
    after, undisturbed = (each / "model.safetensors" for each in (tmp_path / "run", pretrained))
    assert after.read_bytes() == undisturbed.read_bytes()


@pytest.mark.slow
def test_finetune_keeps_the_best_model_by_validation(films, pretrained, tmp_path):
    result = finetune(films, tmp_path / "ft", "--init-from", pretrained)
    assert result.exit_code == 0, result.output
    checked = {line["step"]: line["validation"] for line in metrics(tmp_path / "ft") if "validation" in line}
    assert set(checked) == {2, 4}
    best = max(checked, key=lambda step: checked[step])
    assert checkpoints.read_config(tmp_path / "ft" / "model.safetensors")["record"]["step"] == best


@pytest.mark.slow
def test_finetune_from_nothing_builds_its_own_vocabulary(films, tmp_path):
    assert finetune(films, tmp_path / "ft", "--num-phrases", 4).exit_code == 0
    _, mask = grounder.load(tmp_path / "ft").tokenize(["pleural effusion"])
    assert mask.sum() == 4  # [CLS] pleural effusion [SEP]: words of the lexicon are whole


@pytest.mark.slow
def test_frozen_norms_keep_the_statistics_of_pretraining(films, pretrained, tmp_path):
    finetune(films, tmp_path / "ft", "--init-from", pretrained)
    before, after = (load_file(each / "model.safetensors") for each in (pretrained, tmp_path / "ft"))
    running = [name for name in before if "running_mean" in name]
    assert running
    assert all(torch.equal(before[name], after[name]) for name in running)


@pytest.mark.slow
def test_a_missing_image_is_one_line(films, tmp_path):
    phrase = json.loads(Path(films.phrases).read_text().splitlines()[0]) | {"path": "gone.png"}
    source = tmp_path / "phrases.jsonl"
    source.write_text(json.dumps(phrase) + "\n")
    result = run("finetune", source, "--images", films.folder, "-o", tmp_path / "ft", "--device", "cpu")
    assert result.exit_code == 1
    assert "gone.png" in result.stderr and "Traceback" not in result.stderr


def test_a_subject_in_two_splits_is_refused(films, tmp_path):
    lines = [json.loads(line) | {"subject_id": "p1"} for line in Path(films.phrases).read_text().splitlines()]
    source = tmp_path / "phrases.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = run("finetune", source, "--images", films.folder, "-o", tmp_path / "ft")
    assert result.exit_code == 1
    assert "both training and validation" in result.stderr


def test_nothing_to_train_on_is_said(tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    result = run("pretrain", tmp_path / "empty.jsonl", "-o", tmp_path / "run")
    assert result.exit_code == 1
    assert "nothing to train on" in result.stderr


def test_few_phrases_are_even_over_categories():
    phrases = [
        Phrase(
            image_id=f"i{n}",
            phrase_id=f"p{n}",
            path="x",
            text="",
            boxes=[(0, 0, 1, 1)],
            category="ABB"[n % 3],
        )
        for n in range(30)
    ]
    chosen = splits.few(phrases, 8, seed=3)
    assert [each.category for each in chosen].count("A") == 4
    assert chosen == splits.few(phrases, 8, seed=3) != splits.few(phrases, 8, seed=4)


def test_a_view_moves_its_boxes_with_its_picture():
    rng = np.random.default_rng(0)
    pictures, boxes = torch.zeros(20, 2, 64, 64), torch.zeros(20, 4)
    pictures[:, 1] = 1
    for row in range(20):
        x, y, w, h = *rng.integers(16, 36, 2), *rng.integers(6, 12, 2)
        pictures[row, 0, y : y + h, x : x + w] = 1
        boxes[row] = torch.tensor([(x + w / 2) / 64, (y + h / 2) / 64, w / 64, h / 64])
    draws = torch.from_numpy(rng.uniform(-1, 1, (20, augment.DRAWS)).astype(np.float32))
    draws[:, 3:] = 0
    ranges = augment.Ranges(noise=0)
    moved, found = augment.views(pictures, boxes, torch.arange(20), ranges, draws, torch.zeros(20, 64, 64))
    for row in range(20):
        ys, xs = np.nonzero(moved[row, 0].numpy() > 0.5)
        seen = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        cx, cy, w, h = found[row].numpy() * 64
        assert np.abs(seen - [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]).max() < 1.1


def test_a_mirrored_view_mirrors_its_boxes_and_no_others():
    pictures = torch.rand(40, 2, 8, 8)
    boxes = torch.rand(60, 4)
    image_of = torch.arange(60) % 40
    rngs = [np.random.default_rng(n) for n in range(40)]
    seen, found, there = augment.draw("none", pictures, boxes, image_of, rngs, flip_prob=0.5)
    turned = [torch.equal(new, old.flip(2)) for new, old in zip(seen, pictures, strict=True)]
    assert 10 < sum(turned) < 30 and there.all()
    for row, image in enumerate(image_of):
        across, *rest = boxes[row].tolist()
        assert found[row].tolist() == pytest.approx([1 - across if turned[image] else across, *rest])
        assert turned[image] or torch.equal(seen[image], pictures[image])


def test_a_strong_view_moves_its_boxes_with_its_picture_and_spoils_some():
    pictures, boxes = torch.zeros(60, 2, 64, 64), torch.tensor([[0.5, 0.5, 0.25, 0.25]]).repeat(60, 1)
    pictures[:, 1] = 1
    pictures[:, 0] = torch.rand(60, 64, 64) * 0.05
    pictures[:, 0, 24:40, 24:40] = 1
    rngs = [np.random.default_rng(n) for n in range(60)]
    moved, found, there = augment.draw("strong", pictures, boxes, torch.arange(60), rngs)
    assert 0 < (~there).sum() < 15  # a few are no chests on purpose
    again = augment.draw(
        "strong", pictures[7:8], boxes[7:8], torch.zeros(1, dtype=torch.long), [np.random.default_rng(7)]
    )
    assert torch.equal(again[0][0], moved[7])  # a view does not depend on its neighbours
    brighter = 0
    for row in there.nonzero()[:, 0].tolist():
        cx, cy, w, h = (found[row] * 64).round().int().tolist()
        inner = torch.zeros(64, 64, dtype=torch.bool)
        inner[max(0, cy - h // 2) : cy + h // 2, max(0, cx - w // 2) : cx + w // 2] = True
        film = moved[row, 0]
        brighter += film[inner].mean() > film[~inner & (moved[row, 1] > 0)].mean()
    assert brighter > 0.85 * there.sum()  # some are inverted, some hidden by a device


@pytest.fixture
def tokenize():
    def ids_of(texts):
        ids = torch.tensor([[int.from_bytes(text.encode()[:7])] for text in texts])
        return ids, torch.ones_like(ids, dtype=torch.bool)

    return ids_of


@pytest.mark.parametrize("cached", [False, True])
def test_boxes_lie_on_scaled_copies_as_on_the_films_they_were_drawn_on(films, tmp_path, tokenize, cached):
    halves = scaled(films, tmp_path / "halves")
    if cached:
        made = run("cache", films.phrases, "--images", halves, "-o", tmp_path / "cache", "--image-size", 32)
        assert made.exit_code == 0, made.output
    box = (10.0, 20.0, 60.0, 90.0)
    query = Query(("spot",), (box,))
    example = Example("i0", "film0.png", toy.WIDTH, toy.HEIGHT, None, [query], [query], pairs=[query])
    own, other = (
        collate.collate([(example, [("spot", (box,))])], store, tokenize, ("normal",))
        for store in (
            ImageStore(films.folder, 32),
            ImageStore(halves, 32, cache=tmp_path / "cache" if cached else None),
        )
    )
    assert torch.allclose(own.boxes, other.boxes) and len(own.boxes) == 1
    assert torch.allclose(own.reports.pair_boxes, other.reports.pair_boxes)
    example.width, example.height = toy.HEIGHT, toy.WIDTH
    with pytest.raises(MedgroundError, match="is 60 x 50 pixels, the record of image i0 says 100 x 120"):
        collate.collate([(example, [])], ImageStore(halves, 32), tokenize)


def test_validation_on_scaled_copies_counts_as_on_the_films_themselves(films, tmp_path):
    model = grounder.build("small", ["spot"])
    size = model.config.image_size
    box = (10.0, 20.0, 60.0, 90.0)
    example = Example("i0", "film0.png", toy.WIDTH, toy.HEIGHT, None, sentences=[Query(("spot",), (box,))])
    own, other = (
        validation.over_phrases([example], ImageStore(folder, size), model)(model.network.eval())
        for folder in (films.folder, scaled(films, tmp_path / "halves"))
    )
    assert own == pytest.approx(other, abs=0.02) and own > 0


def scaled(films: toy.Toy, folder: Path) -> Path:
    """A folder of the films at half their size."""
    folder.mkdir()
    for path in films.folder.glob("*.png"):
        Image.open(path).resize((toy.WIDTH // 2, toy.HEIGHT // 2)).save(folder / path.name)
    return folder


@pytest.mark.parametrize("kind", augment.KINDS)
def test_batches_do_not_depend_on_the_number_of_processes(films, kind):
    class ImageSet:
        size = 32

        def get(self, path):
            square = np.full((32, 32), int(path), dtype=np.uint8)
            return LetterboxedImage(square, Letterbox(100, 80, 32))

    from medground.data.collate import Batches, Plan

    queries = [Query((f"a{n}", f"b{n}"), ((n, n, n + 30, n + 30),) * (n % 3)) for n in range(9)]
    found = [Example(f"i{n}", str(n), 100, 80, None, queries) for n in range(7)]

    def tokenize(texts):
        ids = torch.tensor([[int.from_bytes(text.encode())] for text in texts])
        return ids, torch.ones_like(ids, dtype=torch.bool)

    batches = Batches(found, ImageSet(), tokenize, Plan(images=4, seed=5, views=kind))
    for step in range(5):
        whole, parts = batches.at(step), [batches.at(step, rank, 2) for rank in range(2)]
        for rank, part in enumerate(parts):
            assert torch.equal(part.pictures, whole.pictures[rank::2])
            wanted = [n for n, image in enumerate(whole.image_of.tolist()) if image % 2 == rank]
            assert torch.equal(part.boxes, whole.boxes[torch.isin(whole.box_of, torch.tensor(wanted))])
            assert torch.equal(part.ids[part.text_of], whole.ids[whole.text_of[wanted]])
