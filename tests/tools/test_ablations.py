"""The tools that measure what losses add, on toy images."""

import json
from pathlib import Path

import ablation_common
import numpy as np
import pytest
import torch
import toy
from tool_runs import run, tool

from medground.data.collate import Batches, Plan
from medground.data.examples import all_texts
from medground.data.report_targets import Needs
from medground.models import grounder
from medground.objectives.learner import Learner, total
from medground.records import Phrase


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> toy.Toy:
    """Return toys with two pairs each, one for each lung; the last four are held out."""
    cohort = toy.make(tmp_path_factory.mktemp("toy"), count=14)
    anatomies = [json.loads(line) for line in Path(cohort.anatomy).read_text().splitlines()]
    pairs = [json.loads(line) for line in Path(cohort.pairs).read_text().splitlines()]
    for pair, anatomy in zip(list(pairs), anatomies, strict=True):
        other = next(each for each in anatomy["regions"] if each["name"] not in pair["regions"])
        said = {"text": f"{other['name']} is clear", "triplets": [], "sentence_id": "2"}
        pairs.append(
            pair | said | {"regions": [other["name"]], "region_boxes": [other["box"]], "box": other["box"]}
        )
    sentences = [
        {key: pair[key] for key in ("study_id", "sentence_id", "text", "triplets")}
        | {"section": "findings", "start": 0, "end": len(pair["text"])}
        for pair in pairs
    ]
    for name, lines in (("pairs", pairs), ("sentences", sentences), ("held", anatomies[-4:])):
        (cohort.folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return cohort


def common(cohort: toy.Toy) -> list[object]:
    small = ["--seeds", 1, "--steps", 1, "--batch", 4, "--side", 32]
    return ["--reports", cohort.sentences, "--images", cohort.folder, "--test-images", cohort.held, *small]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ablate_asg", "ablate_gk"])
def test_a_line_a_run_and_a_row_a_variant(cohort, name, tmp_path, monkeypatch, capsys):
    module, out = tool(name), tmp_path / "out.jsonl"
    own = ["--merged", cohort.pairs, "--split", cohort.pairs]
    if name == "ablate_gk":
        own = ["--pairs", cohort.pairs, "--anatomy", cohort.anatomy]
    monkeypatch.setattr(module, "VARIANTS", dict(list(module.VARIANTS.items())[-2:]))
    table = run(monkeypatch, capsys, module, *own, *common(cohort), "-o", out)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(each["variant"], each["seed"]) for each in lines] == [
        (variant, 0) for variant in module.VARIANTS
    ]
    assert [row.split(" | ")[0].strip("| ") for row in table.splitlines()[2:]] == list(module.VARIANTS)
    monkeypatch.setattr(ablation_common, "train", None)  # nothing is done again
    assert run(monkeypatch, capsys, module, *own, *common(cohort), "-o", out) == table


@pytest.fixture(scope="module")
def agp(cohort, tmp_path_factory):
    """Return the tool for AGP, its flags for one step of everything on toys, and its output."""
    module, folder = tool("ablate_agp"), tmp_path_factory.mktemp("agp")
    checked = [line for line in Path(cohort.phrases).read_text().splitlines() if '"val"' in line]
    (folder / "test.jsonl").write_text("".join(f"{line}\n" for line in checked))
    own = ["--pairs", cohort.pairs, "--anatomy", cohort.anatomy, "--phrases", cohort.phrases, "--few", 4]
    own += ["--test", folder / "test.jsonl", "--test-anatomy", cohort.held, "--images", cohort.folder]
    own += ["--seeds", 2, "--steps", 1, "--tune-steps", 1, "--batch", 2, "--side", 32]
    return module, [*own, "--runs", folder / "runs", "-o", folder / "out.jsonl"], folder / "out.jsonl"


@pytest.mark.slow
def test_what_agp_is_worth_is_measured_once_and_paired(agp, monkeypatch, capsys):
    module, flags, out = agp
    sizes = dict(module.config.SIZES)
    monkeypatch.setattr(module.config, "SIZES", sizes)
    tables = run(monkeypatch, capsys, module, *flags)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(each["variant"], each["seed"]) for each in lines] == [
        (variant, seed) for seed in range(2) for variant in module.PARTS.variants
    ]
    means, differences = (each.splitlines()[2:] for each in tables.strip().split("\n\n"))
    assert [row.split(" | ")[0].strip("| ") for row in means] == list(module.PARTS.variants)
    assert len(differences) == len(module.PARTS.differences) * 4
    measured = {(each["variant"], each["seed"]): each["zero-shot"] for each in lines}
    own, other = ([measured[name, seed] for seed in range(2)] for name in module.PARTS.differences[0])
    shown = differences[0].strip("| ").split(" | ")
    assert float(shown[2]) == pytest.approx(sum(own) / 2 - sum(other) / 2, abs=1e-3)
    assert [float(each) for each in shown[5].split(", ")] == pytest.approx(
        [a - b for a, b in zip(own, other, strict=True)], abs=1e-3
    )
    monkeypatch.setattr(module, "_run", None)  # nothing is done again
    assert run(monkeypatch, capsys, module, *flags) == tables


@pytest.mark.slow
def test_rows_of_a_study_that_differ_in_fine_tuning_start_from_one_model(agp, monkeypatch, capsys, tmp_path):
    module, flags, _ = agp
    monkeypatch.setattr(module.config, "SIZES", dict(module.config.SIZES))
    own = ["--study", "taco", "--seeds", 1, "--runs", tmp_path / "runs", "-o", tmp_path / "out.jsonl"]
    tables = run(monkeypatch, capsys, module, *flags, *own)
    assert len(list((tmp_path / "runs").iterdir())) == 3  # one pre-training, two fine-tunings
    without, with_it = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines())
    assert with_it["ious"]["zero-shot"] == without["ious"]["zero-shot"]
    assert "| with over without | few-shot |" in tables


def test_a_difference_is_paired_over_patients():
    module = tool("ablate_agp")
    phrases = [
        Phrase(image_id=f"i{n}", phrase_id=f"p{n}", subject_id=f"s{n // 2}", path="x.png", text="x", boxes=[])
        for n in range(40)
    ]
    base = np.random.default_rng(0).random(40)
    score = module._compared(phrases, base + 0.1, base)  # everywhere better by as much: no doubt
    assert (score.value, score.low, score.high) == pytest.approx((0.1, 0.1, 0.1))
    assert score.extra["p"] < 0.01


def test_an_image_is_matched_where_its_own_report_wins():
    wins = tool("ablate_gk")._wins
    own, other = torch.tensor([-3.0, -1.0, 2.0]), torch.tensor([-4.0, -1.0, 3.0])
    assert wins(own, other).tolist() == [1.0, 0.5, 0.0]  # a model that says no to everything may still know
    assert len(wins(own[:1], other[:1])) == 0


def test_the_difference_of_equal_scores_is_0_and_of_better_ones_above_it():
    labels = (torch.arange(60) % 2).float()[:, None].expand(-1, 3)
    scores = torch.rand(60, 3, generator=torch.Generator().manual_seed(0))
    difference = tool("ablate_gk")._difference
    assert difference((scores, labels), (scores, labels), 20) == "+0.000 (+0.000 to +0.000)"
    better = difference((scores + labels, labels), (scores, labels), 20)
    assert float(better.split()[0]) > 0.3 and float(better.split("(")[1].split()[0]) > 0.2


def test_without_the_losses_of_text_no_report_is_encoded(cohort, tmp_path, monkeypatch, capsys):
    module, out = tool("ablate_gk"), tmp_path / "out.jsonl"
    seen = []
    monkeypatch.setattr(module, "_run", lambda learned, *_: (seen.append(learned), ({}, ()))[1])
    monkeypatch.setattr(module, "_difference", lambda *_: "")
    monkeypatch.setattr(ablation_common, "table", lambda *_: "")
    own = ["--pairs", cohort.pairs, "--anatomy", cohort.anatomy, "--ecls-only", "-o", out]
    run(monkeypatch, capsys, module, *own, *common(cohort))
    assert {text for each in seen[0] for text in each.report} == {module.NO_TEXT}
    assert any(each.findings for each in seen[0]) and not any(each.pairs for each in seen[0])


def test_regions_are_queried_by_another_name_of_theirs(cohort):
    module = tool("ablate_agp")
    given = {"test": cohort.phrases, "test_anatomy": cohort.held, "regions_of": 2}
    questions = module._questions(type("Options", (), given))
    assert len(questions["names"]) == len(questions["synonyms"]) == 4
    for name, other in zip(questions["names"], questions["synonyms"], strict=True):
        assert other.text in module.regions.SYNONYMS[name.text] and other.boxes == name.boxes
    assert module._questions(type("Options", (), given)) == questions


def material(cohort: toy.Toy):
    given = {"merged": cohort.pairs, "reports": cohort.sentences, "test_images": cohort.held}
    return tool("ablate_asg")._read(type("Options", (), given), "merged")


@pytest.mark.slow
@pytest.mark.parametrize(("objective", "names"), [("asg", ["arsa", "irl"]), ("gk-mvlp", ["lm", "ecls"])])
def test_what_is_trained_is_learned(cohort, objective, names):
    store, (learned, _) = ablation_common.ImageStore(cohort.folder, 32), material(cohort)
    always = Needs.of([objective]).always
    torch.manual_seed(0)
    model = grounder.build("small", [*all_texts(learned), *always], image_size=32)
    learner = Learner(model, [objective]).train()
    plan = Plan(images=6, terms=0, sentences=0, views="none", always=always)
    batch = Batches(learned, store, model.tokenize, plan).at(0)
    optimizer, costs = torch.optim.AdamW(learner.parameters(), lr=1e-3), []
    for _ in range(10):
        optimizer.zero_grad()
        costs.append(learner(batch))
        total(costs[-1], learner.weights(0)).backward()
        optimizer.step()
    assert [name for name in names if costs[-1][name] > 0.8 * costs[0][name]] == []
    with torch.autocast("cpu", dtype=torch.bfloat16):
        coarse = learner(batch)
    assert all(part.isfinite() and part.dtype == torch.float32 for part in coarse.values())


@pytest.mark.slow
def test_a_training_follows_from_its_recipe(cohort):
    store, (learned, tested) = ablation_common.ImageStore(cohort.folder, 32), material(cohort)
    assert len(tested) == 4 and not {e.image_id for e in learned} & {e.image_id for e in tested}
    recipe = ablation_common.Recipe(objective="asg", weights={}, steps=1, images=3, side=32)
    first, again = (ablation_common.train(learned, store, recipe).learner.state_dict() for _ in range(2))
    assert all(first[name].equal(again[name]) for name in first)


@pytest.mark.slow
def test_cells_have_students_interval():
    lines = [{"variant": "a", "seed": n, "steps": 1, "x": x} for n, x in enumerate([0.1, 0.2, 0.3])]
    assert ablation_common.table(lines, ["a", "b"]).splitlines()[-1] == "| a | 0.200 ± 0.248 |"
    assert ablation_common.table(lines[:1], ["a"]).splitlines()[-1] == "| a | 0.100 |"
