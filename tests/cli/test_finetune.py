"""finetune as its user meets it: who is held out, what stays, recipes."""

import re
import tomllib

import pytest
import torch
from safetensors.torch import load_file
from toy_runs import digests, finetune, lines, record, run, write

from medground.cli import config
from medground.models import encoders
from medground.models.config import SMALL_IMAGE_ENCODER, SMALL_TEXT_ENCODER
from medground.training.optim import PARTS

RECIPES = [
    ("agp-pretrain", "pretrain"),
    ("agp-finetune", "finetune"),
    ("medrpg", "finetune"),
    ("mdetr", "pretrain"),
    ("mdetr", "finetune"),
    ("agp-mdetr", "pretrain"),
    ("agp-mdetr", "finetune"),
    ("transvg", "finetune"),
    ("asg", "pretrain"),
    ("gk-mvlp", "pretrain"),
]


# Splits


@pytest.mark.slow
def test_a_fold_is_held_out_and_written_for_scoring(toy_cohort, tmp_path):
    seen = []
    for fold in (1, 2, 3):
        folder, held = tmp_path / f"run{fold}", tmp_path / f"held{fold}.jsonl"
        done = finetune(
            toy_cohort, folder, "--num-folds", 3, "--fold", fold, "--save-held-out", held, steps=1
        )
        assert done.exit_code == 0, done.output
        tested = {each["subject_id"] for each in lines(held)}
        assert not set(digests(tested)) & set(record(folder)["subjects"])
        seen += sorted(tested)
    assert sorted(seen) == sorted(each["subject_id"] for each in lines(toy_cohort.phrases))


@pytest.mark.slow
def test_the_run_folder_says_how_its_phrases_were_chosen(toy_cohort, tmp_path):
    chosen = {"num_folds": 3, "fold": 2, "subject_fraction": 0.8, "multi_box": "hull", "paraphrases": 2}
    flags = [word for name, value in chosen.items() for word in (f"--{name.replace('_', '-')}", value)]
    assert finetune(toy_cohort, tmp_path / "ft", *flags, steps=1).exit_code == 0
    said = tomllib.loads((tmp_path / "ft/config.toml").read_text())
    assert {name: said[name] for name in chosen} == chosen
    done = finetune(toy_cohort, tmp_path / "ft", *flags, "--fold", 1, steps=1)
    assert (done.exit_code, "holds a run with another" in done.stderr) == (1, True), done.stderr


@pytest.mark.slow
def test_a_list_of_subjects_is_held_out(toy_cohort, tmp_path):
    (tmp_path / "test.txt").write_text("p0\np1\n")
    done = finetune(toy_cohort, tmp_path / "ft", "--test-subjects", tmp_path / "test.txt")
    assert done.exit_code == 0, done.output
    assert record(tmp_path / "ft")["subjects"] == digests(["p2", "p4", "p5", "p6", "p8", "p9", "p10"])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--num-folds", 3], "together with"),
        (["--fold", 1], "together with"),
        (["--num-folds", 3, "--fold", 4], "from 1 to K"),
        (["--num-phrases", 3, "--subject-fraction", 0.5], "not both"),
        (["--anatomy", __file__], "requires --rehearse"),
        (["--objective", "taco"], "add --objective agp"),
        (["--num-folds", 3, "--fold", 1, "--val-subjects", __file__], "not both"),
        (["--steps", 2, "--epochs", 1], "give --steps or --epochs"),
        (["--subject-fraction", 0], "not in the range"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_anything_is_read(
    toy_cohort, tmp_path, flags, said
):
    done = finetune(toy_cohort, tmp_path / "ft", *flags, phrases="-")
    assert (done.exit_code, said in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "ft").exists()


@pytest.mark.slow
def test_epochs_become_steps(toy_cohort, tmp_path):
    done = run(
        "finetune", toy_cohort.phrases, "--images", toy_cohort.folder, "-o", tmp_path / "ft",
        "--batch-size", 4, "--epochs", 1, "--device", "cpu",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert tomllib.loads((tmp_path / "ft" / "config.toml").read_text())["steps"] == 3  # 9 images, 4 a step


# Frozen parts


@pytest.mark.slow
@pytest.mark.parametrize("parts", [["image-encoder"], ["text-encoder", "visual"], list(PARTS)])
def test_frozen_parts_keep_every_byte_and_the_others_move(toy_cohort, pretrained, tmp_path, parts):
    flags = [word for part in parts for word in ("--freeze", part)]
    done = finetune(toy_cohort, tmp_path / "ft", "--init-from", pretrained, *flags, "--weight-decay", 0.1)
    assert done.exit_code == 0, done.output
    before, after = (load_file(each / "model.safetensors") for each in (pretrained, tmp_path / "ft"))
    frozen = tuple(f"{name}." for part in parts for name in PARTS[part])
    others = [name for part in PARTS.keys() - set(parts) for name in PARTS[part]]
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith(frozen))
    for part in (*others, "fusion", "box"):
        own = [name for name in before if name.startswith(f"{part}.")]
        assert any(not torch.equal(before[name], after[name]) for name in own), part


@pytest.mark.slow
def test_a_frozen_part_without_a_start_keeps_its_norms_statistics(toy_cohort, tmp_path):
    done = finetune(toy_cohort, tmp_path / "ft", "--freeze", "image-encoder")
    assert done.exit_code == 0, done.output
    after = load_file(tmp_path / "ft" / "model.safetensors")
    means = [
        each for name, each in after.items() if name.startswith("image_encoder") and "running_mean" in name
    ]
    assert means and not any(each.any() for each in means)  # as they were built


# Objectives and configs


@pytest.mark.slow
def test_with_taco_its_loss_is_logged_beside_the_others(toy_cohort, tmp_path):
    done = finetune(toy_cohort, tmp_path / "ft", "--objective", "agp", "--objective", "taco")
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
    size_of_texts = ["--text-tokens", 20, "--text-layers", 1, "--image-size", 160]
    named = ["--image-encoder", folder / "image", "--text-encoder", folder / "text"]
    return [*named, "--model-size", "small", *size_of_texts]


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "command"), RECIPES)
def test_a_recipe_starts_a_run_with_all_its_settings(toy_cohort, tmp_path, recipe, command, small_encoders):
    source = toy_cohort.pairs if command == "pretrain" else toy_cohort.phrases
    done = run(
        command, source, "--images", toy_cohort.folder, "--config", recipe,
        "-o", tmp_path / "run", "--steps", 1, "--batch-size", 2, "--device", "cpu", *small_encoders,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    values = tomllib.loads((config.RECIPES / f"{recipe}.toml").read_text())
    tables = {name: values.pop(name) for name in ("pretrain", "finetune") if name in values}
    wanted = {key.replace("-", "_"): each for key, each in (values | tables.get(command, {})).items()}
    used = tomllib.loads((tmp_path / "run" / "config.toml").read_text())
    overridden = {"model_size", "steps", "batch_size", "image_encoder", "text_encoder"}
    overridden |= {"epochs", "multi_box", "loss_weight", "text_tokens", "text_layers", "image_size"}
    assert {key: used[key] for key in wanted.keys() - overridden} == {
        key: wanted[key] for key in wanted.keys() - overridden
    }
    assert used["steps"] == 1
    for each in wanted.get("loss_weight", ()):
        name, _, number = each.partition("=")
        assert used["loss_weight"][name] == float(number)


@pytest.mark.parametrize("recipe", ["agp-mdetr", "mdetr"])
def test_a_recipe_of_both_steps_takes_the_encoders_of_the_first(toy_cohort, tmp_path, recipe, small_encoders):
    shared = ["--images", toy_cohort.folder, "--config", recipe, "--steps", 1, "--batch-size", 2]
    first, second = tmp_path / "agp", tmp_path / "finetuned"
    done = run("pretrain", toy_cohort.pairs, *shared, *small_encoders, "-o", first)
    assert done.exit_code == 0, done.output
    start = ["--init-from", first, "--model-size", "small", "--allow-leakage"]
    done = run("finetune", toy_cohort.phrases, *shared, *start, "-o", second)
    assert done.exit_code == 0, done.output


def test_the_published_recipes_are_there():
    published = ["agp-finetune", "agp-mdetr", "agp-pretrain", "asg", "gk-mvlp", "medrpg", "transvg"]
    assert config.recipes() == sorted([*published, "mdetr"])


def test_each_line_of_a_published_recipe_states_its_source():
    for name in set(config.recipes()) - {"mdetr"}:
        text = config.find(name).read_text()
        lines_ = [line for line in text.splitlines() if line and not line.startswith(("#", "["))]
        assert all(re.search(r"# (paper|code|ours)\b", line) for line in lines_), name


@pytest.mark.slow
def test_without_a_box_to_validate_on_the_last_model_is_kept_and_patience_refused(toy_cohort, tmp_path):
    phrases = [each | ({"boxes": []} if each["split"] == "val" else {}) for each in lines(toy_cohort.phrases)]
    source = write(tmp_path / "phrases.jsonl", phrases)
    done = finetune(toy_cohort, tmp_path / "ft", phrases=source, steps=4)
    assert done.exit_code == 0, done.output
    assert "the last model is kept" in done.stderr and record(tmp_path / "ft")["step"] == 4
    assert not any("validation" in each for each in lines(tmp_path / "ft" / "metrics.jsonl"))
    done = finetune(toy_cohort, tmp_path / "patient", "--patience", 2, phrases=source)
    assert (done.exit_code, "--patience counts validations" in done.stderr) == (1, True)
    assert not (tmp_path / "patient").exists()
