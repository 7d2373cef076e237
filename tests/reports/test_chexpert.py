"""The table of CheXpert labels, by the published labeler's phrases and rules."""

import csv
import importlib.util
import io
from collections import Counter

import pytest
from click.testing import CliRunner

import medground
from medground.cli.main import cli
from medground.reports import lexicon
from medground.reports.chexpert import COLUMNS, HARMLESS, HEADER, to_row


def labels(text: str) -> dict[str, str]:
    row = dict(zip(HEADER, to_row("s", None, medground.parse(text), lexicon.load().findings), strict=True))
    return {name: row[name] for name in COLUMNS if row[name]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Moderate vascular congestion.", {"Edema": "1"}),
        ("Pulmonary vascular redistribution.", {}),
        ("Congestive heart failure.", {"Edema": "1", "Cardiomegaly": "-1"}),
        ("CHF with cardiomegaly.", {"Edema": "1", "Cardiomegaly": "1"}),
        ("Volume overload.", {"Edema": "1"}),
        ("No evidence of CHF.", {"Edema": "0", "No Finding": "1"}),
        ("Blunting of the left costophrenic angle.", {}),
        ("Small left effusion.", {"Pleural Effusion": "1"}),
        ("Calcified granuloma in the right upper lobe.", {}),
        ("Nodule in the right upper lobe.", {"Lung Lesion": "1"}),
        ("Scarring at the left base.", {"Lung Opacity": "1"}),
        ("Biapical pleural scarring.", {"Pleural Other": "1"}),
        ("Pulmonary fibrosis.", {"Pleural Other": "1"}),
        ("Infiltrate in the lingula.", {"Lung Opacity": "1"}),
        ("Prominent interstitial markings.", {"Lung Opacity": "1"}),
        ("Increased density at the right base.", {"Lung Opacity": "1"}),
        ("Tortuous aorta.", {}),
        ("Mediastinal widening.", {"Enlarged Cardiomediastinum": "1"}),
        ("Hydropneumothorax on the left.", {"Pneumothorax": "1"}),
        ("Lobar collapse on the right.", {"Atelectasis": "1"}),
        ("Possible pneumonia. No pneumonia.", {"Pneumonia": "-1"}),
        ("Possible pneumonia. Pneumonia.", {"Pneumonia": "1"}),
        ("Scoliosis.", {}),
        ("Endotracheal tube in place.", {"Support Devices": "1", "No Finding": "1"}),
        ("Sternotomy wires. Low lung volumes.", {"No Finding": "1"}),
        ("Lungs are clear.", {"Lung Opacity": "0", "No Finding": "1"}),
        ("Unchanged.", {"No Finding": "1"}),
        ("INDICATION: cough", {}),
        ("", {}),
    ],
)
def test_labels_follow_the_published_phrases(text, expected):
    assert labels(text) == expected


def test_findings_that_no_finding_allows_are_in_the_lexicon():
    assert lexicon.load().findings.keys() >= HARMLESS


def test_an_empty_report_has_a_row_of_blanks():
    table = "id,text\n1,Clear.\n2,\n3,Kein Erguss.\n4,  \n"
    result = CliRunner().invoke(cli, ["parse-reports", "--output-format", "chexpert"], input=table)
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["study_id"] for row in rows] == ["1", "2", "3", "4"]
    assert [any(row[each] for each in COLUMNS) for row in rows] == [True, False, False, False]
    assert "report 2: no findings or impression; 2 such in all" in result.stderr


# Headings of human coders for nine labels. No heading covers what Lung Opacity does, scars and markings too.
CODED = {
    "Atelectasis": ["atelectasis"],
    "Cardiomegaly": ["enlarged cardiac silhouette"],
    "Consolidation": ["consolidation"],
    "Edema": ["pulmonary edema/hazy opacity", "vascular congestion", "fluid overload/heart failure"],
    "Fracture": ["fracture"],
    "Lung Lesion": ["mass/nodule (not otherwise specified)"],
    "Pleural Effusion": ["pleural effusion"],
    "Pneumonia": ["pneumonia"],
    "Pneumothorax": ["pneumothorax"],
}


@pytest.mark.slow
def test_nine_labels_agree_with_the_coders_of_open_i(shared):
    """A proxy for CheXpert's own annotations, which are not public: micro-F1 of positives."""
    spec = importlib.util.spec_from_file_location("openi", shared / "eval" / "openi.py")
    openi = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(openi)
    findings, counts = lexicon.load().findings, Counter()
    for _, first, second, _, mesh in openi.reports(shared / "data" / "openi_dev.tgz"):
        if not (first or second) or "no indexing" in [each.lower() for each in mesh]:
            continue
        report = medground.Report(study_id="s", findings=first, impression=second)
        row = dict(zip(HEADER, to_row("s", None, medground.parse(report), findings), strict=True))
        coded = openi.gold(mesh)["found"]
        for label, headings in CODED.items():
            counts[row[label] == "1", not coded.isdisjoint(headings)] += 1
    assert (
        2 * counts[True, True] / (2 * counts[True, True] + counts[True, False] + counts[False, True]) >= 0.93
    )
