"""The readers on a cohort whose truth is known: what the published layouts hold must come back as it was."""

import json

import pytest
from click.testing import CliRunner

from medground.cli.main import cli


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A small phantom cohort on disk, in the published layouts, with its truth."""
    folder = tmp_path_factory.mktemp("cohort") / "phantom"
    flags = ["--patients", "6", "--image-size", "128", "--seed", "3"]
    assert CliRunner().invoke(cli, ["phantom", str(folder), *flags]).exit_code == 0
    return folder


def convert(*args):
    result = CliRunner().invoke(cli, ["convert", *map(str, args)])
    assert (result.exit_code, result.stderr) == (0, "")
    return [json.loads(line) for line in result.stdout.splitlines()]


def truth(cohort, name):
    return [json.loads(line) for line in (cohort / "truth" / name).read_text().splitlines()]


def metadata(cohort):
    return cohort / "mimic-cxr-jpg" / "mimic-cxr-2.0.0-metadata.csv"


@pytest.mark.slow
def test_regions_come_back_within_a_pixel(cohort):
    found = convert("imagenome", cohort / "chest-imagenome", "--metadata", metadata(cohort))
    known = {each["image_id"]: each for each in truth(cohort, "regions.jsonl")}
    assert {each["image_id"] for each in found} == known.keys()
    for image in found:
        own = known[image["image_id"]]
        assert all(image[key] == own[key] for key in ("path", "width", "height", "study_id", "subject_id"))
        boxes = {each["name"]: each["box"] for each in image["regions"]}
        for region in own["regions"]:
            assert boxes[region["name"]] == pytest.approx(region["box"], abs=1)
        assert boxes.keys() == {each["name"] for each in own["regions"]}


@pytest.mark.slow
def test_triplets_with_a_region_come_back(cohort):
    args = ["parse-reports", "--input-format", "chest-imagenome", str(cohort / "chest-imagenome")]
    found = [json.loads(line) for line in CliRunner().invoke(cli, args).stdout.splitlines()]
    assert found
    said = {_said(sentence, each) for sentence in found for each in sentence["triplets"]}
    meant = {
        _said(sentence, each) for sentence in truth(cohort, "triplets.jsonl") for each in sentence["triplets"]
    }
    # a graph has no place for a finding without a region, and puts it to both lungs
    assert {each for each in meant if each[1] is not None} <= said


def _said(sentence, triplet):
    return (sentence["study_id"], triplet["region"], triplet["finding"], triplet["existence"])


@pytest.mark.slow
def test_reports_images_and_phrases_have_the_same_ids_and_splits(cohort):
    table = cohort / "mimic-cxr-jpg" / "mimic-cxr-2.0.0-split.csv"
    reports = convert("mimic-reports", cohort / "mimic-cxr", "--split-table", table)
    images = convert("mimic-jpg", metadata(cohort), "--split-table", table)
    assert {each["study_id"]: each["split"] for each in reports} == {
        each["study_id"]: each["split"] for each in images
    }
    assert all((cohort / "mimic-cxr-jpg" / each["path"]).exists() for each in images)
    sizes = {each["image_id"]: (each["width"], each["height"]) for each in images}
    for phrase in convert("ms-cxr", cohort / "ms-cxr" / "MS_CXR_Local_Alignment_v1.1.0.csv"):
        assert sizes[phrase["image_id"]] == (phrase["width"], phrase["height"])


@pytest.mark.slow
def test_the_json_of_ms_cxr_holds_the_same_phrases_as_its_table(cohort):
    name = str(cohort / "ms-cxr" / "MS_CXR_Local_Alignment_v1.1.0")
    phrases = convert("ms-cxr", f"{name}.csv")
    assert phrases == convert("ms-cxr", f"{name}.json")
    assert phrases
