"""The tools that measure what losses add, on a cohort of toys."""

import json
import sys
from importlib import machinery, util
from pathlib import Path

import pytest
import toy
from conftest import ROOT

from medground.training import probing


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


def test_a_training_follows_from_its_recipe(films):
    store = probing.FilmStore(films.folder, 32)
    learned, tested = tool("ablate_asg")._read(
        type("Options", (), {"merged": films.pairs, "reports": films.sentences, "test_images": films.held}),
        "merged",
    )
    assert len(tested) == 4 and not {e.image_id for e in learned} & {e.image_id for e in tested}
    recipe = probing.Recipe(objective="asg", weights={}, steps=1, images=3)
    first, again = (probing.train(learned, store, recipe).learner.state_dict() for _ in range(2))
    assert all(first[name].equal(again[name]) for name in first)


def test_cells_have_students_interval():
    lines = [{"variant": "a", "seed": n, "steps": 1, "x": x} for n, x in enumerate([0.1, 0.2, 0.3])]
    assert probing.table(lines, ["a", "b"]).splitlines()[-1] == "| a | 0.200 ± 0.248 |"
    assert probing.table(lines[:1], ["a"]).splitlines()[-1] == "| a | 0.100 |"
