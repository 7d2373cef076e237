"""Feature maps of a frozen encoder: kept once, and in training the same as the images they are of."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from click.testing import CliRunner

from medground import locks
from medground.cli.main import cli
from medground.data import collate
from medground.data.examples import Example
from medground.data.feature_maps import LINES, MAPS, FeatureMaps
from medground.data.image_store import ImageStore
from medground.errors import MedgroundError
from medground.models import grounder

SIZE = 64


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> toy.Toy:
    return toy.make(tmp_path_factory.mktemp("toy"), count=5)


@pytest.fixture(scope="module")
def paths(cohort) -> list[str]:
    lines = Path(cohort.phrases).read_text().splitlines()
    return list(dict.fromkeys(json.loads(line)["path"] for line in lines))


def network(seed: int = 0, **shape):
    torch.manual_seed(seed)
    return grounder.build("small", ["one"], image_size=SIZE, **shape).network.eval()


def maps_of(folder: Path, cohort: toy.Toy, net=None, early: bool = False) -> FeatureMaps:
    return FeatureMaps(folder, Path(cohort.folder), net or network(), SIZE, early)


def add(maps: FeatureMaps, paths: list[str]) -> None:
    maps.add(paths, lambda found, _: found)


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("shape", [{}, {"norm": "post"}, {"padding": "visible"}])
def test_maps_encode_as_their_images(cohort, paths, tmp_path, shape, early):
    net = network(**shape)
    maps, store = maps_of(tmp_path / "maps", cohort, net, early), ImageStore(Path(cohort.folder), SIZE)
    add(maps, paths)
    both = torch.stack([store.get(path).picture() for path in paths])
    mapped = torch.stack([maps.get(path).picture() for path in paths])
    with torch.inference_mode():
        expected = net.encode_images(both[:, :1], both[:, 1:])
        found = net.encode_images(mapped[:, :-1], mapped[:, -1:])
    assert (found.visible == expected.visible).all()
    torch.testing.assert_close(found.patches, expected.patches, atol=5e-3, rtol=5e-3)


@pytest.mark.slow
def test_an_interrupted_folder_is_completed(cohort, paths, tmp_path):
    add(maps_of(tmp_path / "whole", cohort), paths)
    cut = tmp_path / "cut"
    add(maps_of(cut, cohort), paths[:2])
    with (cut / MAPS).open("ab") as stream:
        stream.write(b"half a row")
    with (cut / LINES).open("ab") as stream:
        stream.write(b'{"path":')
    again = maps_of(cut, cohort)
    add(again, paths)
    whole = maps_of(tmp_path / "whole", cohort)
    for path in paths:
        assert (again.get(path).features == whole.get(path).features).all()


def test_a_map_is_computed_once(cohort, paths, tmp_path, monkeypatch):
    add(maps_of(tmp_path, cohort), paths)
    again = maps_of(tmp_path, cohort)
    monkeypatch.setattr(again, "_computed", lambda _: pytest.fail("computed again"))
    add(again, paths)


def test_a_complete_folder_is_used_while_another_run_holds_it(cohort, paths, tmp_path):
    add(maps_of(tmp_path, cohort), paths)
    with locks.hold(tmp_path):
        add(maps_of(tmp_path, cohort), paths)
        with pytest.raises(MedgroundError, match="in use by"):
            add(maps_of(tmp_path, cohort), [*paths, "another.png"])


def test_the_map_of_a_changed_image_is_computed_again(cohort, paths, tmp_path, caplog):
    folder = tmp_path / "images"
    shutil.copytree(cohort.folder, folder)
    maps = FeatureMaps(tmp_path / "maps", folder, network(), SIZE)
    add(maps, paths)
    kept = [maps.get(path).features.copy() for path in paths]
    shutil.copy(folder / paths[0], folder / paths[1])
    os.utime(folder / paths[1], ns=(1, 1))  # the size may be the same
    (folder / paths[2]).unlink()
    for _ in range(2):  # the second time, nothing has changed
        again = FeatureMaps(tmp_path / "maps", folder, network(), SIZE)
        add(again, paths)
        found = [again.get(path).features for path in paths]
        assert np.abs(found[1] - kept[0]).max() < 1e-2 < np.abs(found[1] - kept[1]).max()
        assert all((found[n] == kept[n]).all() for n in range(len(paths)) if n != 1)
    assert caplog.text.count("1 images have changed: their maps are computed again") == 1


def test_maps_of_another_encoder_are_refused(cohort, paths, tmp_path):
    add(maps_of(tmp_path, cohort), paths)
    with pytest.raises(MedgroundError, match="another encoder; name another folder"):
        maps_of(tmp_path, cohort, network(seed=1))


def test_maps_before_the_last_stage_stay_valid_when_it_learns(cohort, paths, tmp_path):
    net = network()
    add(maps_of(tmp_path, cohort, net, early=True), paths)
    stages = net.image_encoder.encoder.stages
    torch.nn.init.zeros_(next(stages[-1].parameters()))
    assert paths[0] in maps_of(tmp_path, cohort, net, early=True)
    torch.nn.init.zeros_(next(stages[0].parameters()))
    with pytest.raises(MedgroundError, match="another encoder"):
        maps_of(tmp_path, cohort, net, early=True)


def test_an_image_without_a_map_is_named(cohort, tmp_path):
    with pytest.raises(MedgroundError, match=r"x\.png: no feature map"):
        maps_of(tmp_path, cohort).get("x.png")


def test_boxes_follow_the_size_of_the_record(cohort, paths, tmp_path):
    maps, store = maps_of(tmp_path, cohort), ImageStore(Path(cohort.folder), SIZE)
    add(maps, paths)
    size = store.get(paths[0]).letterbox
    example = Example("x", paths[0], 2 * size.width, 2 * size.height, None)
    box = np.array([[2.0, 4.0, 20.0, 30.0]])
    both = [collate.load(example, each).letterbox.normalise(box) for each in (maps, store)]
    np.testing.assert_array_equal(*both)


@pytest.mark.slow
@pytest.mark.parametrize("frozen", ["image-encoder", "early-stages"])
def test_pretrain_learns_the_same_from_maps(cohort, tmp_path, frozen):
    common = ["pretrain", cohort.pairs, "--images", cohort.folder, "--image-size", str(SIZE), "--seed", "1"]
    common += ["--steps", "2", "--batch-size", "2", "--freeze", frozen, "--augment", "none"]
    runs = {"plain": [], "mapped": ["--feature-maps", str(tmp_path / "maps")]}
    losses = []
    for name, flags in runs.items():
        result = CliRunner().invoke(cli, [*map(str, common), *flags, "-o", str(tmp_path / name)])
        assert result.exit_code == 0, result.output
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        losses.append(json.loads(lines[-1])["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


def test_maps_need_a_frozen_encoder(cohort, tmp_path):
    flags = ["--images", cohort.folder, "--feature-maps", tmp_path / "maps", "-o", tmp_path / "run"]
    result = CliRunner().invoke(cli, [str(each) for each in ("pretrain", cohort.pairs, *flags)])
    assert result.exit_code == 2
    assert "--freeze image-encoder or early-stages" in result.output
