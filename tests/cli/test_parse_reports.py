"""medground parse-reports as its user meets it."""

import csv
import gzip
import io
import json
import time
import zipfile

import pytest
from click.testing import CliRunner

from medground.cli.main import cli

SECRET = "Jane Doe has a small left pleural effusion."
HEADER = "study_id,subject_id,findings,impression\n"
ROWS = HEADER + "s1,p1,No pneumothorax. Small left effusion.,Likely atelectasis.\n"


@pytest.fixture
def parse():
    def run(text: str | bytes, *flags: str):
        return CliRunner().invoke(cli, ["parse-reports", *flags], input=text)

    return run


def lines(result) -> list[dict]:
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.slow
def test_sentences_come_out_one_a_line(parse):
    sentences = lines(parse(ROWS))
    assert [each["sentence_id"] for each in sentences] == ["s1|1", "s1|2", "s1|3"]
    assert [each["section"] for each in sentences] == ["findings", "findings", "impression"]
    triplet = sentences[1]["triplets"][0]
    assert (triplet["region"], triplet["finding"], triplet["existence"]) == (
        "left lung",
        "pleural effusion",
        "present",
    )
    assert triplet["severity"] == "mild"


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["2", "3"])
def test_workers_write_the_same_bytes(parse, workers):
    rows = "id,text\n" + "".join(f"{n},Nodule {n} mm in the left base. This is a scar.\n" for n in range(700))
    assert parse(rows, "--workers", workers).stdout_bytes == parse(rows).stdout_bytes


def test_json_lines_are_read_and_keys_carried(parse):
    line = json.dumps({"study_id": "s1", "text": "Clear lungs.", "split": "train"}) + "\n"
    assert lines(parse(line))[0]["split"] == "train"


def test_one_text_on_stdin_is_a_report(parse):
    assert lines(parse("FINDINGS: Cardiomegaly."))[0]["study_id"] == "report"


def test_a_folder_of_reports_is_read(parse, tmp_path):
    folder = tmp_path / "p10" / "p10000032"
    folder.mkdir(parents=True)
    (folder / "s50414267.txt").write_text(" FINDINGS:\n Right\n pleural effusion.")
    sentence = lines(parse("", str(tmp_path)))[0]
    assert (sentence["study_id"], sentence["subject_id"]) == ("s50414267", "p10000032")
    assert sentence["text"] == "Right\n pleural effusion."


def test_a_bad_row_names_its_place_and_never_quotes_it(parse):
    result = parse(f'study_id,text\n1,"{SECRET}\n2,clear\n')
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: <stdin>:2: a quote") and "Jane" not in result.stderr


def test_rejects_keep_bad_rows_and_the_run_goes_on(parse, tmp_path):
    rejects = tmp_path / "bad.csv"
    result = parse(f'study_id,text\n1,"{SECRET}\n2,Cardiomegaly.\n', "--rejects", str(rejects))
    assert [each["study_id"] for each in lines(result)] == ["2"]
    assert SECRET in rejects.read_text() and "Jane" not in result.stderr


def test_binary_rubbish_is_refused(parse):
    result = parse(bytes(range(256)) * 40)
    assert result.exit_code == 1 and "binary" in result.stderr and "Traceback" not in result.stderr


def test_a_gzipped_table_is_named_as_such(parse, tmp_path):
    (tmp_path / "reports.csv.gz").write_bytes(gzip.compress(ROWS.encode()))
    result = parse("", str(tmp_path / "reports.csv.gz"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith("reports.csv.gz: gzipped: zcat it into this command\n")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "text", ["study_id,findings,impression\n", "", "study_id,text\n1,INDICATION: cough\n"]
)
def test_reports_without_findings_give_nothing(parse, text):
    result = parse(text)
    assert (result.exit_code, result.stdout) == (0, "")


def test_control_characters_are_words_apart(parse):
    assert (
        lines(parse("study_id,text\n1,Small\x07 left\x0b effusion.\x00\n"))[0]["triplets"][0]["region"]
        == "left lung"
    )


def test_the_table_is_that_of_chexpert(parse):
    rows = list(csv.DictReader(io.StringIO(parse(ROWS, "--output-format", "chexpert").stdout)))
    assert rows[0]["study_id"] == "s1" and rows[0]["subject_id"] == "p1"
    assert (rows[0]["Pleural Effusion"], rows[0]["Pneumothorax"], rows[0]["Atelectasis"]) == ("1", "0", "-1")
    assert (rows[0]["Fracture"], rows[0]["No Finding"]) == ("", "")
    normal = list(
        csv.DictReader(
            io.StringIO(parse("id,text\n1,Lungs are clear.\n", "--output-format", "chexpert").stdout)
        )
    )
    assert (normal[0]["No Finding"], normal[0]["Lung Opacity"]) == ("1", "0")


def test_the_page_shows_the_report_and_escapes_it(parse, tmp_path):
    page = tmp_path / "page.html"
    result = parse("id,text\n1,<b>Small</b> left effusion. No edema.\n", "--html", str(page))
    html = page.read_text()
    assert result.exit_code == 0 and result.stdout == ""
    assert "&lt;b&gt;" in html and "<b>Small" not in html
    assert 'class="present" title="pleural effusion: present (stated)"' in html
    assert '<option value="pleural effusion">pleural effusion (1)</option>' in html


def test_an_explanation_names_match_cue_reach_and_rule(parse):
    out = parse("", "--explain", "No pneumothorax; small left effusion.").stdout
    assert '"No" (negation, reaches forward): "pneumothorax"' in out
    assert (
        '<no region (none), pneumothorax, absent> from "pneumothorax": rule negation-before, cue "No"' in out
    )
    assert (
        '<left lung (explicit), pleural effusion, present> from "effusion": rule stated, severity mild' in out
    )


@pytest.mark.slow
def test_a_lexicon_of_ones_own_is_added(parse, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text('[[finding]]\nname = "rib notching"\nwords = ["(rib|) notching"]\n')
    sentence = lines(parse("id,text\n1,No rib notching.\n", "--lexicon", str(own)))[0]
    assert sentence["triplets"][0]["finding"] == "rib notching"


def test_an_unknown_section_is_a_usage_error(parse):
    result = parse(ROWS, "--section-columns", "befund=findings")
    assert result.exit_code == 2 and "unknown section 'befund'" in result.stderr


def test_a_failed_run_leaves_the_output_alone(parse, tmp_path):
    target = tmp_path / "out.jsonl"
    target.write_text("from before\n")
    assert parse("study_id,text\n1,a,b\n", "-o", str(target)).exit_code == 1
    assert target.read_text() == "from before\n"


@pytest.mark.slow
def test_real_reports_are_parsed_as_coders_read_them(parse, shared, tmp_path):
    """A floor under the figures of tools/bench_parse, on the development reports."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("openi", shared / "eval" / "openi.py")
    openi = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(openi)
    source = shared / "data" / "openi_dev.tgz"
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["study_id", "findings", "impression"])
    rows.writerows([uid, findings, impression] for uid, findings, impression, _, _ in openi.reports(source))
    score = openi.score(source, parse(text.getvalue()).stdout.splitlines())
    assert score["finding"]["f1"] >= 0.95 and score["side"]["f1"] >= 0.92 and score["zone"]["f1"] >= 0.905
    assert score["normal_fp"] <= 0.02


def test_radgraph_comes_in_as_sentences(parse, tmp_path):
    entity = {
        "tokens": "effusion",
        "label": "OBS-U",
        "start_ix": 2,
        "end_ix": 2,
        "relations": [["located_at", "2"]],
    }
    place = {"tokens": "left", "label": "ANAT-DP", "start_ix": 1, "end_ix": 1, "relations": []}
    graph = tmp_path / "graph.json"
    report = {"text": "Possible left effusion", "entities": {"1": entity, "2": place}}
    graph.write_text(json.dumps({"p10/p10000032/s50414267.txt": report}))
    sentence = lines(parse("", "--input-format", "radgraph", str(graph)))[0]
    triplet = sentence["triplets"][0]
    assert (sentence["study_id"], triplet["region"], triplet["existence"]) == (
        "s50414267",
        "left lung",
        "uncertain",
    )


def test_scene_graphs_come_in_as_sentences(parse, tmp_path):
    attribute = {
        "bbox_name": "right lung",
        "phrases": ["Possible mild opacity."],
        "phrase_IDs": ["50414267|3"],
        "sections": ["finalreport"],
        "attributes": [["anatomicalfinding|yes|lung opacity"]],
        "severity_cues": [["severity|yes|hedge", "severity|yes|mild"]],
        "comparison_cues": [[]],
    }
    graph = {"image_id": "i1", "patient_id": 10000032, "study_id": 50414267, "attributes": [attribute]}
    (tmp_path / "i1_SceneGraph.json").write_text(json.dumps(graph))
    with zipfile.ZipFile(tmp_path / "scene_graph.zip", "w") as archive:
        archive.write(tmp_path / "i1_SceneGraph.json", "scene_graph/i1_SceneGraph.json")
    [sentence] = lines(parse("", "--input-format", "chest-imagenome", str(tmp_path / "scene_graph.zip")))
    assert (sentence["study_id"], sentence["text"]) == ("s50414267", "Possible mild opacity.")
    assert sentence["triplets"][0]["existence"] == "uncertain"
    assert lines(parse("", "--input-format", "chest-imagenome", str(tmp_path))) == [sentence]


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--input-format", "chest-imagenome"], "requires a folder or .zip"),
        (["--input-format", "radgraph", "--output-format", "chexpert"], "leave out --input-format"),
        (
            ["--input-format", "radgraph", "--html", "page.html"],
            "leave out --input-format radgraph or --html",
        ),
        (["--input-format", "radgraph", "--likely-as", "present"], "--likely-as would have no effect"),
        (["--input-format", "chest-imagenome", "--lexicon", __file__], "--lexicon would have no effect"),
        (["--html", "page.html", "-o", "sentences.jsonl"], "leave out --html or -o"),
        (["--html", "page.html", "--output-format", "chexpert"], "leave out --html or --output-format"),
        (["--explain", "No edema.", "-o", "sentences.jsonl"], "leave out --explain or -o"),
        (["--explain", "No edema.", "-"], "leave out --explain or FILE"),
    ],
)
def test_what_does_not_go_together_is_a_usage_error(parse, flags, problem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = parse("", *flags)
    assert result.exit_code == 2 and problem in result.stderr
    assert not [*tmp_path.iterdir()]


def test_a_table_with_unknown_names_is_a_table_on_stdin_if_its_columns_are_named(parse):
    rows = "nr,befund,urteil\na,Small left effusion.,\nb,,No pneumothorax.\n"
    columns = ("--id-column", "nr", "--section-columns", "findings=befund,impression=urteil")
    found = lines(parse(rows, *columns))
    assert [(each["study_id"], each["section"]) for each in found] == [("a", "findings"), ("b", "impression")]


def test_a_table_with_unknown_names_is_not_read_as_the_text_of_one_report(parse):
    result = parse("nr,befund\na,Small left effusion.\nb,No pneumothorax.\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: <stdin>: no column of report text, name it with --text-column")


def test_names_of_columns_are_refused_for_reports_without_columns(parse):
    line = json.dumps({"study_id": "s1", "words": SECRET}) + "\n"
    result = parse(line, "--text-column", "words")
    assert (result.exit_code, result.stdout) == (1, "")
    assert (
        result.stderr == "Error: <stdin>: not a table: leave out --text-column and other names of columns\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit", ["small left effusion and ", "no edema, ", "\n", "? ", "x", "1. ", ".", "heart is enlarged "]
)
def test_a_very_long_report_costs_by_its_length_not_by_its_square(parse, unit):
    """And its neighbours are read."""
    times = []
    for length in (50_000, 200_000):
        text = (unit * length)[:length]
        began = time.process_time()
        sentences = lines(parse(f'id,text\n1,Cardiomegaly.\n2,"{text}"\n3,Small left effusion.\n'))
        times.append(time.process_time() - began)
        assert {"1", "3"} <= {each["study_id"] for each in sentences}
        assert all(len(each["text"]) <= 2_000 for each in sentences)
    assert times[1] < 8 * max(times[0], 0.3)
