"""Reports in other languages are recognised, and English ones are never dropped."""

import csv
import io
import json
import re
import tarfile

import pytest
from click.testing import CliRunner

import medground
from medground.cli.main import cli
from medground.reports import languages, lexicon
from medground.reports.languages import is_english

FOREIGN = {
    "German": [
        "Kein Pneumothorax.",
        "Pleuraerguss rechts. Herz nicht vergrößert.",
        "PLEURAERGUSS LINKS, KEINE STAUUNG.",
        "Befund: Normal großes Herz. Kein Nachweis frischer Infiltrate, keine Ergüsse.",
        "Unauffälliger Befund.",
    ],
    "Spanish": [
        "Derrame pleural izquierdo.",
        "Sin neumotórax.",
        "No derrame pleural.",
        "Silueta cardiaca de tamaño normal. No se observan consolidaciones.",
        "Atelectasia basal derecha.",
        "Infiltrado alveolar en base derecha.",
    ],
    "French": [
        "Pas de pneumothorax.",
        "Épanchement pleural gauche.",
        "Silhouette cardiaque de taille normale. Absence d'opacité parenchymateuse.",
        "Index cardiothoracique normal. Absence de foyer parenchymateux.",
        "Pas d'épanchement pleural ni de foyer.",
        "Opacité basale droite.",
    ],
    "Portuguese": [
        "Sem derrame pleural.",
        "Pneumotórax à direita.",
        "Área cardíaca normal. Seios costofrênicos livres.",
        "Não há consolidações.",
        "Atelectasia no pulmão esquerdo.",
    ],
    "Italian": [
        "Non versamento pleurico.",
        "Versamento pleurico destro.",
        "Ombra cardiaca nei limiti. Non addensamenti parenchimali.",
        "Assenza di pneumotorace.",
        "Atelettasia basale sinistra.",
        "Non si osservano alterazioni.",
    ],
    "Dutch": [
        "Geen pneumothorax.",
        "Pleuravocht links.",
        "Hart niet vergroot, slank mediastinum. Geen infiltraat.",
        "Geen aanwijzingen voor consolidatie.",
        "Atelectase rechter onderkwab.",
    ],
    "others": [
        "Ingen pneumothorax.",
        "Bez odmy.",
        "Нет пневмоторакса.",
        "右侧胸腔积液。",
        "Plevral efüzyon yok.",
    ],
}
ENGLISH = [
    "No pneumothorax.", "Clear.", "NAD", "Pneumothorax.", "PTX: neg", "Cardiomegaly. Effusion.",
    "Dr. Müller: no pneumothorax.", "Results given to Dr. García del Río by Dr. Muñoz. No acute disease.",
    "ETT 3 cm above the carina. NG tube tip in stomach.", "De novo nodule, 5 µm.",
    "Normal PA and LA chest.", "R/O pna", "Consolidation LLL.", "Status post Roux-en-Y.",
    "Pneumonia.", "s/p CABG, sternal wires intact",
    "OG tube, ET tube, IM nail, CON. eff, para-aortic PAs",
    "", "7", "Befund: No acute cardiopulmonary disease. The lungs are clear.",
]  # fmt: skip


@pytest.mark.parametrize(
    ("language", "text"), [(name, each) for name, texts in FOREIGN.items() for each in texts]
)
def test_another_language_is_recognised_in_one_sentence(language, text):
    assert not is_english(text)
    assert medground.parse(text) == []


@pytest.mark.parametrize("text", ENGLISH)
def test_short_english_stays_english(text):
    assert is_english(text)


def vocabulary(trie: dict) -> set[str]:
    return {word for word in trie if word}.union(*(vocabulary(node) for word, node in trie.items() if word))


@pytest.mark.slow
def test_no_word_of_another_language_is_one_that_the_parser_reads():
    english, others = languages._lists()
    words = lexicon.load()
    assert not others & (vocabulary(words.trie) | vocabulary(words.places) | english)
    assert all(each == each.lower() and languages._WORD.fullmatch(each) for each in english | others)


ROWS = "id,text\n1,No effusion.\n2,Kein Erguss.\n3,Derrame pleural derecho.\n4,INDICATION: cough\n"


@pytest.mark.slow
def test_reports_in_other_languages_are_one_warning_and_no_triplet():
    result = CliRunner().invoke(cli, ["parse-reports"], input=ROWS)
    assert [json.loads(each)["study_id"] for each in result.stdout.splitlines()] == ["1"]
    warnings = result.stderr.splitlines()
    assert warnings == [
        "WARNING: report 4: no findings or impression; 1 such in all (-v lists them)",
        "WARNING: report 2: not English, --any-language parses it; 2 such in all (-v lists them)",
    ]


@pytest.mark.slow
def test_reports_in_any_language_are_parsed_on_request():
    result = CliRunner().invoke(cli, ["parse-reports", "--any-language"], input=ROWS)
    assert {json.loads(each)["study_id"] for each in result.stdout.splitlines()} == {"1", "2", "3"}
    assert medground.parse("Kein Pneumothorax.", any_language=True)


@pytest.mark.slow
def test_pages_and_python_warn_too(tmp_path, caplog):
    assert [each.study_id for each in medground.parse(["No effusion.", "Kein Erguss."])] == ["report"]
    assert [each.getMessage() for each in caplog.records] == [
        "1 of 2 reports are not English and have no sentences"
    ]
    result = CliRunner().invoke(cli, ["parse-reports", "--html", str(tmp_path / "page.html")], input=ROWS)
    assert "report 2: not English, --any-language parses it; 2 such in all" in result.stderr


def test_a_longer_report_in_an_unlisted_language_is_recognised():
    basque = "Biriketan ez da ikusten lesio akuturik. Bihotzaren tamaina arrunta da."
    assert not set(basque.lower().split()) & languages._lists()[1]
    assert not is_english(basque)
    assert is_english("Crdiomegaly wth pulmnary edma. Smal efusion.")


@pytest.mark.slow
def test_a_report_in_another_language_has_no_labels():
    result = CliRunner().invoke(cli, ["parse-reports", "--output-format", "chexpert"], input=ROWS)
    labels = [set(row.values()) - {row["study_id"]} for row in csv.DictReader(io.StringIO(result.stdout))]
    assert [each == {""} for each in labels] == [False, True, True, True]


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("start", ['{{"study_id":"1","text":"{}"}}\n', "id,text\n1,{}\n", "{}"])
def test_every_input_may_have_any_encoding(start, encoding):
    text = "No pneumothorax – small effusion."
    result = CliRunner().invoke(cli, ["parse-reports"], input=start.format(text).encode(encoding))
    (line,) = result.stdout.splitlines()
    assert json.loads(line)["text"] == text


@pytest.mark.slow
def test_no_english_report_is_dropped(shared):
    pattern = re.compile(rb"<AbstractText[^>]*>([^<]+)")
    with tarfile.open(shared / "data" / "openi_dev.tgz") as tar:
        reports = [tar.extractfile(each).read() for each in tar if each.name.endswith(".xml")]
    texts = [b" ".join(pattern.findall(each)).decode() for each in reports]
    assert len(texts) == 1_964 and all(map(is_english, texts))
    assert all(is_english(sentence) for text in texts for sentence in text.split("."))
