"""The probe of ASG's variants: predictions for every seed and share, which the evaluation pairs."""

import json
from collections import Counter

import ablation_common
import pytest
from click.testing import CliRunner
from tool_runs import tool

from medground import checkpoints
from medground.cli.main import cli
from medground.models import grounder, lite

PATIENTS = 20


def run(*words: object):
    result = CliRunner().invoke(cli, [str(each) for each in words])
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a small cohort, its pairs and sentences, and an untrained encoder."""
    made = tmp_path_factory.mktemp("probe")
    cohort, encoder = made / "cohort", made / "lite0"
    flags = ["--patients", PATIENTS, "--image-size", 64, "--seed", 3, "--lateral-fraction", 0]
    run("phantom", cohort, *flags)
    metadata = cohort / "mimic-cxr-jpg" / "mimic-cxr-2.0.0-metadata.csv"
    run("convert", "imagenome", cohort / "chest-imagenome", "--metadata", metadata, "-o", made / "a.jsonl")
    run("parse-reports", cohort / "reports.csv", "-o", made / "sentences.jsonl")
    run("align", made / "sentences.jsonl", "--anatomy", made / "a.jsonl", "-o", made / "pairs.jsonl")
    encoder.mkdir()
    (encoder / "config.json").write_text(json.dumps({"model_type": lite.MODEL_TYPE}))
    (encoder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5], "image_std": [0.5]}))
    checkpoints.save(encoder / "model.safetensors", lite.Lite().state_dict(), {})
    return made


@pytest.mark.slow
def test_each_seed_is_trained_and_probed_once(folder, monkeypatch):
    module, out = tool("probe_asg"), folder / "out"
    words = [folder / "cohort", "--merged", folder / "pairs.jsonl", "--reports", folder / "sentences.jsonl"]
    words += ["--encoder", folder / "lite0", "--maps", folder / "maps", "-o", out]
    words += ["--seed", 0, "--seed", 1, "--steps", 1, "--batch", 4, "--side", 64]
    words += ["--variant", "none", "--variant", "full", "--keep", "--loss-weight", "irl=20"]
    arguments = [str(each) for each in words]
    result = CliRunner().invoke(module.main, arguments)
    assert result.exit_code == 0, result.output
    labels = [json.loads(line) for line in (out / "labels.jsonl").read_text().splitlines()]
    assert len(labels) == PATIENTS
    held = sum(each["split"] != "train" for each in labels)
    for name in ("none", "full"):
        for layer in ("encoder", "visual"):
            lines = [json.loads(line) for line in (out / layer / f"{name}.jsonl").read_text().splitlines()]
            runs = Counter((each["share"], each["seed"]) for each in lines)
            assert runs == {(share, seed): held for share in (0.01, 0.1, 1.0) for seed in (0, 1)}
    assert grounder.load(out / "models" / "full-1").config.image_size == 64
    before = (out / "encoder" / "full.jsonl").read_bytes()
    assert before != (out / "encoder" / "none.jsonl").read_bytes()  # the last stage has learned
    monkeypatch.setattr(ablation_common, "train", None)  # nothing is done again
    assert CliRunner().invoke(module.main, arguments).exit_code == 0
    assert (out / "encoder" / "full.jsonl").read_bytes() == before
