"""Models of others in `ground`: tiny, untrained ones of each class, as transformers saves them."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
import toy
from click.testing import CliRunner
from paths import ROOT
from PIL import Image

import medground
from medground import jsonl, registry
from medground.cli.main import cli
from medground.errors import MedgroundError
from medground.grounding.adapters import detectors, generators, model, similarity, sources
from medground.records import Phrase

KINDS = {
    "grounding-dino": tiny_models.grounding_dino,
    "owl": tiny_models.owlv2,
    "florence-2": tiny_models.florence_2,
    "paligemma": tiny_models.paligemma,
    "qwen2.5-vl": tiny_models.qwen2_5_vl,
    "llava": tiny_models.llava,
    "similarity": tiny_models.clip,
}
OPTIONS = {"coverage": None, "min_score": 0.0, "min_present": None}
TABLE = (ROOT / "docs" / "other-models.md").read_text()
SIZE = (toy.WIDTH, toy.HEIGHT)  # 120 x 100


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> toy.Toy:
    return toy.make(tmp_path_factory.mktemp("toy"), count=2)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return the folder of a tiny model, which is made once."""
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = KINDS[kind](tmp_path_factory.mktemp("models") / kind)
        return made[kind]

    return folder


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(generators, "MAX_TOKENS", 6)


def phrases_of(cohort: toy.Toy) -> list[Phrase]:
    return [
        Phrase(
            image_id=f"image{n}", phrase_id=f"{n}|{word}", path=f"image{n}.png", text=word,
            extra={"existence": "absent"} if word == "no edema" else {},
        )
        for n in range(2)
        for word in ("left lung", "a small bright spot", "no edema")
    ]  # fmt: skip


def records(found: model.ForeignModel, cohort: toy.Toy) -> list[dict]:
    pairs = found.ground(phrases_of(cohort), cohort.folder, None, found.options(**OPTIONS))
    return [json.loads(jsonl.dumps(grounding)) for _, grounding in pairs]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation")  # in transformers' processor of PaliGemma
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_grounds_phrases_one_by_one_as_together(kind, folders, cohort):
    loaded = model.load(folders(kind), "cpu")
    together = records(loaded, cohort)
    assert [each["phrase_id"] for each in together] == [each.phrase_id for each in phrases_of(cohort)]
    for each in together:
        corners = np.array([box["box"] for box in each["boxes"]]).reshape(-1, 4)
        assert (corners >= 0).all() and (corners <= SIZE * 2).all()
        assert each["present"] == max((box["score"] for box in each["boxes"]), default=0.0) <= 1
        if each.get("existence") == "absent":
            assert not each["boxes"]
    alone = records(replace(loaded, at_once=1), cohort)
    for one, other in zip(together, alone, strict=True):
        assert len(one["boxes"]) == len(other["boxes"])
        for box, same in zip(one["boxes"], other["boxes"], strict=True):
            assert box["box"] == pytest.approx(same["box"], abs=0.11)
            assert box["score"] == pytest.approx(same["score"], abs=2e-4)
    entry = registry.MODEL_ADAPTERS[kind]
    with_boxes = [each for each in together if each.get("existence") != "absent"]
    assert entry.none or all(each["boxes"] for each in with_boxes)
    assert entry.several or {len(each["boxes"]) for each in with_boxes} == {1}


def run(*words, **more):
    return CliRunner().invoke(cli, list(map(str, words)), **more)


@pytest.mark.slow
def test_ground_takes_the_folder_and_resumes(folders, cohort, tmp_path):
    given = "".join(
        json.dumps({"image_id": p.image_id, "phrase_id": p.phrase_id, "path": p.path, "text": p.text}) + "\n"
        for p in phrases_of(cohort)
    )
    words = ("ground", "--model", folders("owl"), "--images", cohort.folder, "--device", "cpu")
    whole = run(*words, input=given)
    assert whole.exit_code == 0, whole.stderr
    lines = whole.stdout_bytes.splitlines(keepends=True)
    assert len(lines) == 6 and json.loads(lines[0])["model"] == sources.name_of(folders("owl"))
    (tmp_path / "out.partial").write_bytes(b"".join(lines[:4]) + b'{"image')
    again = run(*words, "--resume", "-o", tmp_path / "out", input=given)
    assert (again.exit_code, (tmp_path / "out").read_bytes()) == (0, whole.stdout_bytes), again.stderr
    result = run(*words, "--backend", "bf16", input=given)
    assert (result.exit_code, "run with torch" in result.stderr) == (2, True)
    result = run(*words, "--coverage", 0.9, input=given)
    assert (result.exit_code, "needs a calibration" in result.stderr) == (1, True)


WRITTEN = {  # text about an image of 120 x 100 pixels -> the corners in it
    "florence-2": ("</s><s>spot<loc_250><loc_500><loc_499><loc_999></s>", (30.06, 50.05, 59.94, 99.95)),
    "paligemma": ("<loc0512><loc0256><loc1023><loc0512> spot<eos>", (30, 50, 60, 99.9)),
    "qwen-vl": ('```json\n[{"bbox_2d": [250, 500, 500, 1000], "label": "spot"}]\n```', (30, 50, 60, 100)),
    "llava": ("It is at [0.25, 0.5, 0.5, 0.75].</s>", (30, 50, 60, 80)),  # padded: y = 120 * .5 - 10
    "llava-onevision": ("It is at [0.25, 0.5, 0.5, 0.75].</s>", (30, 50, 60, 75)),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_the_text_of_each_kind_is_read_in_its_frame(kind):
    text, corners = WRITTEN[kind]
    own = getattr(generators, kind.replace("-", "_").upper())
    found = generators.placed(own.parse(text), own.frame, Image.new("RGB", SIZE))
    [(box, score)] = found.boxes
    assert box == pytest.approx(corners, abs=0.01) and score == 1 and found.unreadable == 0


@pytest.mark.slow
def test_boxes_of_qwen2_5_are_in_pixels_of_the_resized_image(folders):
    loaded = model.load(folders("qwen2.5-vl"), "cpu")
    image = Image.new("RGB", (240, 100))
    inputs = loaded.adapter.inputs(image, ["spot"])
    assert loaded.adapter.frame(inputs) == "stretch:168x56"  # multiples of 28 with at most 112 * 112 pixels
    loaded.adapter.texts = lambda inputs: ['[{"bbox_2d": [42, 28, 84, 56]}, {"bbox_2d": [28, 4']
    [found] = loaded.adapter.find(image, ["spot"])
    assert found.boxes == [(pytest.approx((60, 50, 120, 100)), 1.0)] and found.unreadable == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind, sides", [("grounding-dino", (120, 100)), ("owl", (120, 120))])
def test_detectors_give_shares_of_the_whole_image_or_of_the_padded_square(kind, sides, folders, monkeypatch):
    loaded = model.load(folders(kind), "cpu").adapter
    seen = []
    forward = loaded.network.forward
    monkeypatch.setattr(loaded.network, "forward", lambda **inputs: seen.append(forward(**inputs)) or seen[0])
    [found] = loaded.find(Image.new("RGB", SIZE), ["spot"])
    best, score = found.boxes[0]
    placed = []  # (score, box) of all queries
    for (x, y, w, h), logits in zip(seen[0].pred_boxes[0].tolist(), seen[0].logits[0], strict=True):
        corners = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2]) * (sides * 2)
        placed.append((logits.max().sigmoid().item(), *corners.clip(0, SIZE * 2)))
    inside = [each for each in placed if each[3] - each[1] >= 0.1 and each[4] - each[2] >= 0.1]
    assert (score, *best) == pytest.approx(max(inside), abs=0.01)


def test_a_box_that_overlaps_a_better_one_is_left_out():
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 10, 10], [50, 50, 60, 60]])
    found = {"boxes": boxes, "scores": torch.tensor([0.4, 0.9, 0.6])}
    assert detectors._best(found, Image.new("RGB", (55, 70))) == [
        ((1.0, 0.0, 10.0, 10.0), pytest.approx(0.9)), ((50.0, 50.0, 55.0, 60.0), pytest.approx(0.6))
    ]  # fmt: skip


def test_the_box_of_a_map_is_around_its_peak_alone():
    grid = np.zeros((4, 5), np.float32)
    grid[1, 1:3], grid[2, 2], grid[3, 4] = 0.4, 0.9, 0.8
    assert similarity.around_peak(grid) == ((0.4, 0.5, 0.6, 0.75), pytest.approx(0.9))
    grid[1, 2] = 0.5
    assert similarity.around_peak(grid)[0] == (0.4, 0.25, 0.6, 0.75)


@pytest.mark.slow
def test_a_map_finds_the_patch_that_is_like_the_phrase(folders, monkeypatch):
    loaded = model.load(folders("similarity"), "cpu").adapter
    maps = loaded.maps(Image.new("RGB", SIZE), ["spot", "lung"])
    assert maps.shape == (2, 6, 6) and (maps.abs() <= 1 + 1e-5).all()
    peak = torch.zeros(1, 6, 6)
    peak[0, 0, 5] = 0.5
    monkeypatch.setattr(loaded, "maps", lambda image, phrases: peak)
    [found] = loaded.find(Image.new("RGB", SIZE), ["spot"])  # of the central square, 100 pixels wide
    assert found.boxes == [(pytest.approx((10 + 500 / 6, 0, 110, 100 / 6)), 0.75)]


class TestTrust:
    @pytest.fixture(autouse=True)
    def modules(self, tmp_path, monkeypatch):
        """Keep the copies that transformers makes of code out of the user's folder."""
        import transformers.dynamic_module_utils as utils

        monkeypatch.setattr(utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
        monkeypatch.syspath_prepend(str(tmp_path / "modules"))

    def test_code_of_a_model_runs_only_if_it_is_trusted(self, cohort, tmp_path):
        folder = tiny_models.maira_2(tmp_path / "maira_2")
        words = ("ground", "--model", folder, cohort.folder / "image0.png", "spot", "--device", "cpu")
        refused = run(*words)
        assert refused.exit_code == 1 and "then give --trust-remote-code" in refused.stderr
        assert not (tmp_path / "modules").exists()
        result = run(*words, "--trust-remote-code")
        assert result.exit_code == 0, result.stderr
        [box] = json.loads(result.stdout)["boxes"]
        assert box == {"box": [20.5, 20.5, 40.5, 40.5], "score": 1.0}  # of the crop: 100 of 120 pixels

    def test_a_prompt_goes_around_the_phrase_of_maira_2(self, cohort, tmp_path, monkeypatch):
        folder = tiny_models.maira_2(tmp_path / "maira_2")
        loaded = model.load(folder, "cpu", trust_remote_code=True, prompt="a large {phrase}")
        seen, processor = [], type(loaded.adapter.processor)
        made = processor.format_and_preprocess_phrase_grounding_input
        keep = lambda self, **given: seen.append(given["phrase"]) or made(self, **given)  # noqa: E731
        monkeypatch.setattr(processor, "format_and_preprocess_phrase_grounding_input", keep)
        [found] = loaded.adapter.find(Image.new("RGB", SIZE), ["spot"])
        assert seen == ["a large spot"] and len(found.boxes) == 1

    def test_code_beside_a_model_that_needs_none_is_not_run(self, folders, tmp_path):
        folder = tmp_path / "with_code"
        folder.mkdir()
        for path in folders("owl").iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        (folder / "evil.py").write_text("raise SystemExit('ran')\n")
        config = json.loads((folder / "config.json").read_text())
        config["auto_map"] = {
            each: "evil.Thing" for each in ("AutoModelForZeroShotObjectDetection", "AutoConfig")
        }
        (folder / "config.json").write_text(json.dumps(config))
        assert model.load(folder, "cpu").name


@pytest.mark.slow
def test_load_takes_the_folder_as_ground_does(folders, cohort):
    loaded = medground.load(folders("owl"), device="cpu", any_view=True)
    assert isinstance(loaded, model.ForeignModel)
    [found] = loaded.predict(cohort.folder / "image0.png", "a small bright spot", min_score=0.0)
    result = run(
        "ground", "--model", folders("owl"), cohort.folder / "image0.png", "a small bright spot",
        "--min-score", 0, "--any-view", "--device", "cpu",
    )  # fmt: skip
    assert json.loads(result.stdout)["boxes"] == json.loads(jsonl.dumps(found))["boxes"]
    with pytest.raises(MedgroundError, match="backend bf16: models of transformers run with torch"):
        medground.load(folders("owl"), backend="bf16")
    with pytest.raises(MedgroundError, match="a prompt is for models of transformers"):
        medground.load(prompt="{phrase}")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["owl", "grounding-dino"])
def test_special_tokens_in_a_phrase_do_not_reach_the_model(kind, folders, cohort, monkeypatch, caplog):
    loaded = medground.load(folders(kind), device="cpu", any_view=True)
    token = next(t for t in loaded.adapter.processor.tokenizer.all_special_tokens if loaded.special.match(t))
    queried = []
    find = loaded.adapter.find
    monkeypatch.setattr(
        loaded.adapter, "find", lambda image, texts: queried.extend(texts) or find(image, texts)
    )
    half = token[: len(token) // 2] + token + token[len(token) // 2 :]
    loaded.predict(
        cohort.folder / "image0.png", [f"spot {token.upper()} here", f"spot {half}", "bright < spot [5]"]
    )
    assert not any(token.lower() in each.lower() for each in queried)
    assert queried[2] == "bright < spot [5]" and "2 phrases have special tokens" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["owl", "llava"])
def test_a_prompt_goes_around_the_phrase(kind, folders, cohort, monkeypatch):
    loaded = medground.load(folders(kind), device="cpu", any_view=True, prompt="a photo {} of {phrase}!")
    seen = []
    tokenizer = type(loaded.adapter.processor.tokenizer)
    made = tokenizer.__call__
    keep = lambda self, text, *rest, **more: seen.append(text) or made(self, text, *rest, **more)  # noqa: E731
    monkeypatch.setattr(tokenizer, "__call__", keep)
    [found] = loaded.predict(cohort.folder / "image0.png", "spot")
    assert any("a photo {} of spot!" in each for texts in seen for each in texts)
    assert found.extra["prompt"] == "a photo {} of {phrase}!"
    result = run("ground", cohort.folder / "image0.png", "spot", "--prompt", "spot")
    assert (result.exit_code, "lacks {phrase}" in result.stderr) == (2, True)


def test_a_folder_without_an_adapter_or_weights_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "blip-2"}')
    with pytest.raises(MedgroundError, match=r"no adapter for its model_type; there are adapters for clip, "):
        model.load(tmp_path, "cpu")
    (tmp_path / "config.json").write_text('{"model_type": "owlv2"}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(MedgroundError, match="pickled weights may run code and are not read"):
        model.load(tmp_path, "cpu")
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(MedgroundError, match="transformers cannot load it: "):
        model.load(tmp_path, "cpu")
    (tmp_path / "config.json").write_text('{"model_type": ')
    with pytest.raises(MedgroundError, match=r"config\.json: not JSON"):
        model.load(tmp_path, "cpu")
    (tmp_path / "config.json").write_text('{"architecture": "transvg"}')
    assert model.load(tmp_path, "cpu") is None


def test_the_name_of_a_model_follows_its_files(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(range(256)) * 1000)
    first = sources.name_of(tmp_path)
    assert sources.name_of(tmp_path) == first and len(first) == 12
    (tmp_path / "model.safetensors").write_bytes(bytes(range(256)) * 999 + bytes(256))
    assert sources.name_of(tmp_path) != first


def test_records_with_another_shape_than_the_image_are_refused_or_rejected(cohort):
    class Nothing:
        def find(self, image, phrases):
            return [model.Found([((0, 0, 60, 50), 0.5), ((200, 0, 300, 10), 0.4)], 1, True) for _ in phrases]

    loaded = model.ForeignModel("m", Nothing())
    phrase = replace(phrases_of(cohort)[0], width=240, height=200)
    [(sized, found)] = loaded.ground([phrase], cohort.folder, None, loaded.options(**OPTIONS))
    assert (sized.width, [each.box for each in found.boxes]) == (240, [(0, 0, 120, 100)])
    other = replace(phrase, width=100)
    with pytest.raises(MedgroundError, match="is 120 x 100 pixels, its phrases say 100 x 200"):
        list(loaded.ground([other], cohort.folder, None, loaded.options(**OPTIONS)))
    bad = []
    take = lambda phrase, problem: bad.append(phrase)  # noqa: E731
    assert (
        list(loaded.ground([other], cohort.folder, take, loaded.options(**OPTIONS))) == [] and len(bad) == 1
    )


def test_the_documentation_says_what_each_adapter_can():
    rows = re.findall(
        r"^\| `([\w.-]+)` \|.*\| (.*) \| (yes|no) \| (yes|no) \| (yes|no) \|", TABLE, re.MULTILINE
    )
    said = {name: (types, *(each == "yes" for each in flags)) for name, types, *flags in rows}
    assert said == {
        name: (", ".join(f"`{each}`" for each in entry.model_types), entry.several, entry.none, entry.scores)
        for name, entry in registry.MODEL_ADAPTERS.built_in.items()
    }
