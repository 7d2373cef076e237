"""The tools that measure what losses add, on a cohort of toys."""

import json
import sys
from importlib import machinery, util
from pathlib import Path

import pytest
import torch
import toy
from conftest import ROOT

from medground.models import grounder
from medground.objectives.learner import Learner, total
from medground.training import probing
from medground.training.batches import Batches, Plan
from medground.training.examples import all_texts
from medground.training.telling import Needs


def tool(name: str):
    """A tool as a module, so that torch is loaded once."""
    loader = machinery.SourceFileLoader(name, str(ROOT / "tools" / name))
    module = util.module_from_spec(util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> toy.Toy:
    """Toys of which each has two pairs, one for each lung; the last four are held out."""
    films = toy.make(tmp_path_factory.mktemp("toy"), count=14)
    anatomies = [json.loads(line) for line in Path(films.anatomy).read_text().splitlines()]
    pairs = [json.loads(line) for line in Path(films.pairs).read_text().splitlines()]
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
        (films.folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return films


def run(monkeypatch, capsys, module, *flags: object) -> str:
    monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, flags)])
    module.main()
    return capsys.readouterr().out


def common(films: toy.Toy) -> list[object]:
    small = ["--seeds", 1, "--steps", 1, "--batch", 4, "--side", 32]
    return ["--reports", films.sentences, "--images", films.folder, "--test-images", films.held, *small]


@pytest.mark.parametrize("name", ["ablate_asg", "ablate_gk"])
def test_a_line_a_run_and_a_row_a_variant(films, name, tmp_path, monkeypatch, capsys):
    module, out = tool(name), tmp_path / "out.jsonl"
    own = ["--merged", films.pairs, "--split", films.pairs]
    if name == "ablate_gk":
        own = ["--pairs", films.pairs, "--anatomy", films.anatomy]
    monkeypatch.setattr(module, "VARIANTS", dict(list(module.VARIANTS.items())[-2:]))
    table = run(monkeypatch, capsys, module, *own, *common(films), "-o", out)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(each["variant"], each["seed"]) for each in lines] == [
        (variant, 0) for variant in module.VARIANTS
    ]
    assert [row.split(" | ")[0].strip("| ") for row in table.splitlines()[2:]] == list(module.VARIANTS)
    monkeypatch.setattr(probing, "train", None)  # nothing is done again
    assert run(monkeypatch, capsys, module, *own, *common(films), "-o", out) == table


def material(films: toy.Toy):
    given = {"merged": films.pairs, "reports": films.sentences, "test_images": films.held}
    return tool("ablate_asg")._read(type("Options", (), given), "merged")


@pytest.mark.parametrize(("objective", "names"), [("asg", ["arsa", "irl"]), ("gk-mvlp", ["lm", "ecls"])])
def test_what_is_trained_is_learned(films, objective, names):
    store, (learned, _) = probing.FilmStore(films.folder, 32), material(films)
    always = Needs.of([objective]).always
    torch.manual_seed(0)
    model = grounder.build("small", [*all_texts(learned), *always])
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


def test_a_training_follows_from_its_recipe(films):
    store, (learned, tested) = probing.FilmStore(films.folder, 32), material(films)
    assert len(tested) == 4 and not {e.image_id for e in learned} & {e.image_id for e in tested}
    recipe = probing.Recipe(objective="asg", weights={}, steps=1, images=3)
    first, again = (probing.train(learned, store, recipe).learner.state_dict() for _ in range(2))
    assert all(first[name].equal(again[name]) for name in first)


def test_cells_have_students_interval():
    lines = [{"variant": "a", "seed": n, "steps": 1, "x": x} for n, x in enumerate([0.1, 0.2, 0.3])]
    assert probing.table(lines, ["a", "b"]).splitlines()[-1] == "| a | 0.200 ± 0.248 |"
    assert probing.table(lines[:1], ["a"]).splitlines()[-1] == "| a | 0.100 |"
