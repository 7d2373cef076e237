"""What the options of training change, what they must not change, and what is refused before it begins."""

import hashlib
import json
import shutil
import signal
import tomllib
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import signals
import toy
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file

from medground import checkpoints, registry
from medground.cli.main import cli
from medground.data import examples
from medground.data.examples import Example, Query
from medground.errors import MedgroundError
from medground.models import encoders, grounder
from medground.training import trackers, train, validation
from medground.training.stepper import Stepper


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> toy.Toy:
    return toy.make(tmp_path_factory.mktemp("toy"), count=6)


def run(*args: object):
    return CliRunner().invoke(cli, [str(each) for each in args])


def pretrain(cohort: toy.Toy, folder: Path, *flags: object, pairs: object = None):
    return run(
        "pretrain", pairs or cohort.pairs, "--anatomy", cohort.anatomy, "--images", cohort.folder,
        "-o", folder, "--steps", 4, "--batch-size", 2, "--save-every", 2, "--log-every", 1,
        "--device", "cpu", *flags,
    )  # fmt: skip


def finetune(cohort: toy.Toy, folder: Path, *flags: object):
    return run(
        "finetune", cohort.phrases, "--images", cohort.folder,
        "-o", folder, "--steps", 4, "--batch-size", 2, "--save-every", 1, "--device", "cpu", *flags,
    )  # fmt: skip


def losses(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


@pytest.fixture(scope="module")
def plain(cohort, tmp_path_factory) -> Path:
    """A run without any of the options."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    result = pretrain(cohort, folder)
    assert result.exit_code == 0, result.output
    return folder


ALL = [
    "--ema-decay",
    0.9,
    "--micro-batches",
    2,
    "--lr-schedule",
    "step",
    "--max-grad-norm",
    0.5,
    "--patience",
    9,
]


@pytest.mark.slow
def test_with_all_options_a_stopped_run_ends_with_the_bytes_of_an_undisturbed_one(
    cohort, tmp_path, monkeypatch
):
    lines = Path(cohort.phrases).read_text().splitlines(keepends=True)
    (tmp_path / "val.jsonl").write_text("".join(line for line in lines if json.loads(line)["split"] == "val"))
    flags = [*ALL, "--val", tmp_path / "val.jsonl"]
    assert pretrain(cohort, tmp_path / "whole", *flags).exit_code == 0
    real, calls = Stepper.step, []

    def step(*args):
        calls.append(1)
        if len(calls) == 3:
            signals.deliver(signal.SIGTERM)
        return real(*args)

    monkeypatch.setattr(Stepper, "step", step)
    assert pretrain(cohort, tmp_path / "run", *flags).exit_code == 75
    assert pretrain(cohort, tmp_path / "run", *flags, "--loader-threads", 3).exit_code == 0
    assert len(calls) == 4
    for name in ("model.safetensors", "resume.safetensors", "metrics.jsonl", "losses.png", "config.toml"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    config = (tmp_path / "run" / "config.toml").read_text()
    assert all(
        each in config
        for each in (
            "ema_decay = 0.9",
            "micro_batches = 2",
            'lr_schedule = "step"',
            "max_grad_norm = 0.5",
            "patience = 9",
        )
    )


@pytest.mark.slow
def test_what_is_saved_is_the_running_mean(cohort, tmp_path):
    assert pretrain(cohort, tmp_path / "run", "--ema-decay", 0.9).exit_code == 0
    kept, saved = (load_file(tmp_path / "run" / name) for name in ("resume.safetensors", "model.safetensors"))
    name = "box.0.weight"
    assert saved[name].equal(kept[f"average.{name}"])
    assert not saved[name].equal(kept[f"model.network.{name}"])
    assert grounder.load(tmp_path / "run")


@pytest.mark.slow
def test_a_run_leaves_a_picture_of_its_losses(plain):
    with Image.open(plain / "losses.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 200


@pytest.mark.slow
def test_images_of_a_cache_train_the_very_same_model(cohort, plain, tmp_path):
    made = run(
        "cache", cohort.anatomy, "--images", cohort.folder, "-o", tmp_path / "cache", "--image-size", 160
    )
    assert made.exit_code == 0
    result = pretrain(cohort, tmp_path / "run", "--cache", tmp_path / "cache", "--loader-threads", 0)
    assert (result.exit_code, result.stderr) == (0, "")
    for name in ("model.safetensors", "metrics.jsonl", "config.toml"):
        assert (tmp_path / "run" / name).read_bytes() == (plain / name).read_bytes(), name


@pytest.mark.slow
def test_images_that_a_cache_lacks_are_counted(cohort, tmp_path):
    (first := tmp_path / "first.jsonl").write_text(Path(cohort.anatomy).read_text().splitlines(True)[0])
    run("cache", first, "--images", cohort.folder, "-o", tmp_path / "cache", "--image-size", 160)
    result = pretrain(cohort, tmp_path / "run", "--cache", tmp_path / "cache", "--steps", 1)
    assert result.exit_code == 0
    assert "4 images are not in" in result.stderr


@pytest.mark.slow
def test_a_cache_of_another_size_is_refused(cohort, tmp_path):
    run("cache", cohort.anatomy, "--images", cohort.folder, "-o", tmp_path / "cache", "--image-size", 32)
    result = pretrain(cohort, tmp_path / "run", "--cache", tmp_path / "cache")
    assert result.exit_code == 1
    assert "32 px, expected 160 px" in result.stderr


@pytest.mark.slow
def test_a_run_without_a_better_validation_ends_early_and_stays_ended(cohort, tmp_path, monkeypatch):
    figures = iter([0.5, 0.4, 0.3])
    monkeypatch.setattr(validation, "over_phrases", lambda *_: lambda network: next(figures))
    result = finetune(cohort, tmp_path / "run", "--patience", 2)
    assert result.exit_code == 0
    assert "ended at step 3: no better validation since step 1" in result.stderr
    saved = checkpoints.read_config(tmp_path / "run" / "model.safetensors")
    assert saved["record"]["step"] == 1
    monkeypatch.setattr(Stepper, "step", None)
    assert finetune(cohort, tmp_path / "run", "--patience", 2).exit_code == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # torch's, while it traces
def test_a_compiled_run_learns_the_same_and_names_its_weights_the_same(cohort, plain, tmp_path, monkeypatch):
    monkeypatch.setattr(
        train, "COMPILER", "eager"
    )  # traced, but not made into machine code: that takes minutes
    result = pretrain(cohort, tmp_path / "run", "--compile", "--steps", 1)
    assert result.exit_code == 0, result.output
    assert losses(tmp_path / "run") == pytest.approx(losses(plain)[:1], abs=1e-4)
    for name in ("model.safetensors", "resume.safetensors"):
        assert load_file(tmp_path / "run" / name).keys() == load_file(plain / name).keys()


@pytest.mark.slow
def test_losses_are_written_for_a_tracker(cohort, plain, tmp_path):
    pytest.importorskip("tensorboard")
    result = pretrain(cohort, tmp_path / "run", "--tracker", "tensorboard")
    assert result.exit_code == 0, result.output
    assert list((tmp_path / "run" / "tensorboard").rglob("events.out.tfevents.*"))
    same = "model.safetensors"
    assert (tmp_path / "run" / same).read_bytes() == (plain / same).read_bytes()


def test_a_tracker_that_is_not_installed_is_one_message(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    result = pretrain(cohort, tmp_path / "run", "--tracker", "tensorboard")
    assert result.exit_code == 1
    assert "pip install 'medground[tensorboard]'" in result.stderr
    assert not (tmp_path / "run").exists()


def test_more_parts_than_images_are_refused(cohort, tmp_path):
    result = pretrain(cohort, tmp_path / "run", "--micro-batches", 3)
    assert result.exit_code == 1
    assert "--batch-size 2 is too small for 3 micro-batches" in result.stderr


def changed_pairs(cohort: toy.Toy, folder: Path, **changes: object) -> Path:
    """The toy pairs, the second one changed."""
    lines = [json.loads(line) for line in Path(cohort.pairs).read_text().splitlines()]
    lines[1] |= changes
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "pairs.jsonl"


@pytest.mark.slow
def test_a_pair_whose_image_is_missing_is_one_line(cohort, tmp_path):
    pairs = changed_pairs(cohort, tmp_path, path="gone.png", image_id="gone")
    result = pretrain(cohort, tmp_path / "run", pairs=pairs)
    assert result.exit_code == 1
    assert "gone.png" in result.stderr.splitlines()[-1] and "Traceback" not in result.stderr


@pytest.mark.slow
def test_a_box_without_area_is_named_by_its_line(cohort, tmp_path):
    pairs = changed_pairs(cohort, tmp_path, box=[5, 5, 5, 9])
    result = pretrain(cohort, tmp_path / "run", pairs=pairs)
    assert result.exit_code == 1
    assert "pairs.jsonl:2: a box needs x2 > x1" in result.stderr
    kept = pretrain(cohort, tmp_path / "run", "--rejects", tmp_path / "rejects", "--steps", 1, pairs=pairs)
    assert kept.exit_code == 0
    assert len((tmp_path / "rejects").read_text().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--architecture", "mdetr"], "--architecture mdetr"),
        (["--model-size", "paper"], "--model-size paper"),
        (["--image-encoder", "ENCODERS/image"], "--image-encoder "),
        (["--text-encoder", "ENCODERS/text"], "--text-encoder "),
    ],
)
def test_a_shape_that_is_not_the_starts_is_refused_by_the_options_name(
    cohort, plain, small_encoders, tmp_path, flags, said
):
    given = [each.replace("ENCODERS", str(small_encoders)) for each in flags]
    result = finetune(cohort, tmp_path / "run", "--init-from", plain, *given)
    assert result.exit_code == 2
    assert said in result.stderr and f"{plain} has" in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_config_that_contradicts_the_start_is_refused_too(cohort, plain, tmp_path):
    (config := tmp_path / "run.toml").write_text('model_size = "paper"\n')
    result = finetune(cohort, tmp_path / "run", "--init-from", plain, "--config", config)
    assert result.exit_code == 2 and "--model-size paper" in result.stderr


@pytest.fixture(scope="module")
def small_encoders(tmp_path_factory) -> Path:
    """A folder with `image` and `text`, encoders of other shapes than those that are built without."""
    folder = tmp_path_factory.mktemp("encoders")
    words = encoders.build_tokenizer(["bright spot", "opacity"])
    words.save_pretrained(folder / "text")
    text = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"intermediate_size": 32, "vocab_size": len(words)}
    encoders.build_text_encoder(text).save_pretrained(folder / "text")
    image = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
    encoders.build_image_encoder(image | {"out_features": ["stage2"]}).save_pretrained(folder / "image")
    return folder


@pytest.mark.slow
def test_a_run_has_the_shape_of_its_start_without_any_option(cohort, small_encoders, tmp_path):
    given = ["--image-encoder", small_encoders / "image", "--text-encoder", small_encoders / "text"]
    shape = ["--architecture", "mdetr", *given]
    assert pretrain(cohort, tmp_path / "mdetr", *shape, "--steps", 1).exit_code == 0
    for name, flags in (("bare", []), ("spelled", [*shape, "--model-size", "small"])):
        result = finetune(cohort, tmp_path / name, "--init-from", tmp_path / "mdetr", *flags, "--steps", 1)
        assert result.exit_code == 0, result.output
        used = tomllib.loads((tmp_path / name / "config.toml").read_text())
        assert (used["architecture"], used["model_size"]) == ("mdetr", "small")
    bare, spelled = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("bare", "spelled"))
    assert bare == spelled


@pytest.mark.slow
def test_a_start_with_a_shape_of_its_own_has_no_size(cohort, tmp_path):
    model = grounder.build("small", ["bright spot"])
    config = replace(model.config, fusion_layers=1)
    network = registry.ARCHITECTURES["transvg"].load()(
        config, model.network.image_encoder, model.network.text_encoder
    )
    grounder.save(tmp_path / "own", replace(model, config=config, network=network))
    result = finetune(cohort, tmp_path / "run", "--init-from", tmp_path / "own", "--steps", 1)
    assert result.exit_code == 0, result.output
    assert "model_size" not in tomllib.loads((tmp_path / "run" / "config.toml").read_text())
    refused = finetune(cohort, tmp_path / "other", "--init-from", tmp_path / "own", "--model-size", "small")
    assert refused.exit_code == 2 and "has a shape of its own" in refused.stderr


def test_a_start_without_a_model_is_named(cohort, tmp_path):
    result = finetune(cohort, tmp_path / "run", "--init-from", tmp_path)
    assert result.exit_code == 1 and "no config.json" in result.stderr


@pytest.mark.slow
def test_from_python_too_the_architecture_is_that_of_the_start(plain):
    with pytest.raises(MedgroundError, match="holds a transvg, not a mdetr"):
        train._loaded(plain, SimpleNamespace(architecture="mdetr"))


@pytest.mark.slow
def test_weights_of_another_vocabulary_are_refused(cohort, plain, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(plain, model)
    config = json.loads((model / "config.json").read_text())
    config["text_encoder"]["vocab_size"] += 1
    (model / "config.json").write_text(json.dumps(config))
    result = finetune(cohort, tmp_path / "run", "--init-from", model)
    assert result.exit_code == 1
    assert "do not fit its config.json" in result.stderr


@pytest.mark.slow
def test_a_checkpoint_of_another_network_is_refused(cohort, plain, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(plain, folder)
    (folder / "model.safetensors").unlink()
    tensors, config = checkpoints.load(folder / "resume.safetensors")
    tensors.pop("model.network.box.0.weight")
    checkpoints.save(folder / "resume.safetensors", tensors, config | {"step": 2})
    result = pretrain(cohort, folder)
    assert result.exit_code == 1
    assert "another architecture (network.box.0.weight does not fit)" in result.stderr


@pytest.mark.slow
def test_a_text_encoder_without_its_tokenizer_is_refused(cohort, tmp_path):
    folder = tmp_path / "words"
    config = {"model_type": "bert", "vocab_size": 200, "hidden_size": 32, "num_hidden_layers": 1}
    config |= {"num_attention_heads": 2, "intermediate_size": 32}
    encoders.build_text_encoder(config).save_pretrained(folder)
    result = pretrain(cohort, tmp_path / "run", "--text-encoder", folder)
    assert result.exit_code == 1
    assert "no tokenizer there" in result.stderr


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--loss-weight", "gio=1"], "no loss 'gio'; the losses are giou, l1, present"),
        (["--loss-weight", "near=1"], "no loss 'near'"),
        (["--objective", "gk-mvlp", "--objective", "gk-mvlp-unmasked"], "two objectives have a loss"),
    ],
)
def test_losses_that_are_not_there_are_refused_before_anything_is_read(cohort, tmp_path, flags, said):
    (tmp_path / "bad.jsonl").write_text("{oops\n")
    result = pretrain(cohort, tmp_path / "run", *flags, pairs=tmp_path / "bad.jsonl")
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr
    assert not (tmp_path / "run").exists()


def test_half_precision_without_a_gpu_is_refused(cohort, tmp_path):
    result = pretrain(cohort, tmp_path / "run", "--precision", "fp16")
    assert result.exit_code == 1
    assert "--precision fp16 needs a GPU" in result.stderr and not (tmp_path / "run").exists()


def test_a_digest_of_examples_does_not_change_from_version_to_version(cohort):
    queries = [Query(("it's",), ((1.0, 2.0, 3.5, 4.0),)), Query(("b", "c"), (), ("d",))]
    found = [
        Example("i1", "x", 1, 1, None, queries, [], "s"),
        Example("i2", "y", 2, 2, "p", tags={"a": "absent"}),
    ]
    for some in ([], found[:1], found):
        whole = repr([asdict(each) for each in some]).encode()
        assert examples.digest(some) == hashlib.sha256(whole).hexdigest()[:12]


@pytest.mark.slow
def test_with_a_text_encoder_no_vocabulary_is_built(cohort, small_encoders, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "vocabulary", None)
    given = ["--text-encoder", small_encoders / "text", "--steps", 1]
    assert pretrain(cohort, tmp_path / "run", *given).exit_code == 0
