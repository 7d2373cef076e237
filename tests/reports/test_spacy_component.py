"""The spaCy component gives what `medground.parse` gives, and takes negspacy's place."""

import json
import tomllib
from collections import Counter
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner

import medground
from medground.cli.main import cli
from medground.record_json import to_json

spacy = pytest.importorskip("spacy")
pytestmark = pytest.mark.slow  # loads spaCy
ROOT = Path(__file__).resolve().parents[2]
REPORT = """INDICATION: cough, rule out pneumonia. Fever.
FINDINGS:
1. Small left and moderate right pleural effusions. 2. No pneumothorax.
The lungs are clear.Heart is enlarged.
IMPRESSION: Possible left lower lobe pneumonia/atelectasis. ET tube in place, 3 cm above the carina.
"""
TEXTS = [
    REPORT,
    "No pneumothorax.",
    "Cardiomegaly with bibasilar atelectasis and/or infiltrates; edema versus infection.",
    "Heart and mediastinum normal.No effusion.Degenerative changes of the spine.",
    "Left-sided PICC tip in the SVC. Mild, improved right-sided atelectasis – no consolidation.",
    "Kein Erguss.",
    "",
    "\n\n  \n",
    "COMPARISON: none.",
    "Calcified granuloma, right upper lobe; tortuous calcified aorta. Fractures of the left 5th-7th ribs",
]


@pytest.fixture(scope="module")
def nlp():
    from medground.reports import spacy_component  # noqa: F401  (registers the component)

    pipeline = spacy.blank("en")
    pipeline.add_pipe("medground")
    return pipeline


def counted(triplets) -> Counter:
    return Counter(json.dumps(each, sort_keys=True) for each in triplets)


def test_the_installed_package_names_the_component_as_pyproject_does():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    for group in ("spacy_factories", "spacy_displacy_colors"):
        (installed,) = metadata.entry_points(group=group, name="medground")
        assert installed.value == declared[group]["medground"]
        assert callable(installed.load())
    assert spacy.blank("en").has_factory("medground")


@pytest.mark.parametrize("text", TEXTS)
def test_every_triplet_is_that_of_parse(nlp, text):
    doc = nlp(text)
    sentences = medground.parse(text)
    expected = [to_json(each) for sentence in sentences for each in sentence.triplets]
    assert counted(t for span in doc.spans["findings"] for t in span._.triplets) == counted(expected)
    for span in doc.spans["findings"]:
        for each in span._.triplets:
            start, end = each["finding_span"]
            assert text[start:end] in span.text and span.label_ == each["finding"]
            assert span._.existence == each["existence"] and span._.negex == (each["existence"] == "absent")
        assert span._.regions == [each["region"] for each in span._.triplets if each["region"]]
    assert [s.label_ for s in doc.spans["existence"]] == [s._.existence for s in doc.spans["existence"]]
    assert [(s.label_, s.text) for s in doc.spans["sentences"]] == [(s.section, s.text) for s in sentences]
    assert {each["region"] for each in expected if each["region_span"]} - {None} == {
        s.label_ for s in doc.spans["regions"]
    }
    assert {each["rule"] for each in expected if each["cue_span"]} == {s.label_ for s in doc.spans["cues"]}


def test_entities_are_findings_with_their_attributes(nlp):
    doc = nlp("Small left effusion. No pneumothorax. Lungs are clear. Possible left lower lobe pneumonia.")
    assert [(e.label_, e._.existence, e._.negex, e._.regions, e._.severity) for e in doc.ents] == [
        ("pleural effusion", "present", False, ["left lung"], "mild"),
        ("pneumothorax", "absent", True, [], None),
        ("lung opacity", "absent", True, ["right lung", "left lung"], None),
        ("pneumonia", "uncertain", False, ["left lower lung zone"], None),
    ]
    assert doc[0:1]._.existence is None and doc[0:1]._.regions == [] and doc[0:1]._.negex is False


def test_sentences_and_sections_are_the_parsers(nlp):
    doc = nlp(REPORT)
    assert [each.text.strip() for each in doc.sents] == [
        "INDICATION:",
        "cough, rule out pneumonia.",
        "Fever.",
        "FINDINGS:\n1.",
        "Small left and moderate right pleural effusions.",
        "2. No pneumothorax.",
        "The lungs are clear.",
        "Heart is enlarged.",
        "IMPRESSION:",
        "Possible left lower lobe pneumonia/atelectasis.",
        "ET tube in place, 3 cm above the carina.",
    ]
    assert [each.label_ for each in doc.spans["sections"]] == ["history", "findings", "impression"]


def test_entities_of_other_components_stay_where_no_finding_is(nlp):
    ruled = spacy.blank("en")
    ruler = ruled.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "PERSON", "pattern": "Doe"}, {"label": "LAB", "pattern": "effusion"}])
    ruled.add_pipe("medground")
    doc = ruled("Small effusion, told to Doe.")
    assert [(each.text, each.label_) for each in doc.ents] == [
        ("effusion", "pleural effusion"),
        ("Doe", "PERSON"),
    ]


def test_sentences_of_a_dependency_parser_stay(nlp):
    words = ["No", "pneumothorax", ".", "Small", "effusion", "."]
    parsed = spacy.tokens.Doc(nlp.vocab, words, heads=[1, 1, 1, 1, 1, 1], deps=["dep"] * 6)
    doc = nlp.get_pipe("medground")(parsed)
    assert len(list(doc.sents)) == 1
    assert [(each.label_, each._.negex) for each in doc.ents] == [
        ("pneumothorax", True),
        ("pleural effusion", False),
    ]


def test_settings_are_those_of_the_command_and_are_saved(tmp_path):
    pipeline = spacy.blank("en")
    pipeline.add_pipe(
        "medground", config={"likely_as": "present", "all_sections": True, "any_language": True}
    )
    pipeline.to_disk(tmp_path / "pipeline")
    doc = spacy.load(tmp_path / "pipeline")("INDICATION: kein Erguss, likely pneumonia.")
    assert [(each.label_, each._.existence) for each in doc.ents] == [("pneumonia", "present")]


def test_a_doc_is_stored_and_read_again_with_its_findings(nlp):
    doc = nlp(REPORT)
    again = spacy.tokens.Doc(nlp.vocab).from_bytes(doc.to_bytes())
    assert [(e.label_, e._.existence, e._.regions, e._.negex) for e in again.ents] == [
        (e.label_, e._.existence, e._.regions, e._.negex) for e in doc.ents
    ]
    assert [each.text for each in nlp.pipe(TEXTS)] == TEXTS


def test_a_doc_that_is_read_twice_has_each_triplet_once(nlp):
    doc = nlp(nlp("Small left effusion."))
    assert [len(each._.triplets) for each in doc.ents] == [1]


def test_displacy_has_a_color_for_each_finding_and_existence():
    from medground.reports import lexicon, spacy_component

    colors = spacy_component.displacy_colors()
    assert colors.keys() == {*lexicon.load().findings, "present", "absent", "uncertain"}
    assert colors["pneumothorax"] != colors["picc"] != colors["present"] != colors["absent"]


def test_negspacys_component_may_follow(nlp):
    """Its component after ours overwrites nothing but what it negates itself."""
    import negspacy.negation  # noqa: F401

    pipeline = spacy.blank("en")
    pipeline.add_pipe("medground")

    pipeline.add_pipe("negex")
    doc = pipeline("No pneumothorax. Pleural effusion.")
    assert [(each.label_, each._.negex) for each in doc.ents] == [
        ("pneumothorax", True),
        ("pleural effusion", False),
    ]


ROWS = "id,text\n1,No pneumothorax. Effusion has resolved. Possible right pneumonia. Lungs are clear.\n"


def triplets_of(*flags: str) -> list[tuple[str, str, str]]:
    result = CliRunner().invoke(cli, ["parse-reports", *flags], input=ROWS)
    assert result.exit_code == 0, result.stderr
    triplets = [each for line in result.stdout.splitlines() for each in json.loads(line)["triplets"]]
    return list(dict.fromkeys((each["finding"], each["existence"], each["rule"]) for each in triplets))


def test_negspacy_decides_existence_on_request():
    assert triplets_of("--existence-by", "negspacy") == [
        ("pneumothorax", "absent", "negspacy"),
        ("pleural effusion", "present", "negspacy"),
        ("pneumonia", "present", "negspacy"),
        ("lung opacity", "absent", "normality"),
    ]
    assert (
        triplets_of()
        == triplets_of("--existence-by", "rules")
        == [
            ("pneumothorax", "absent", "negation-before"),
            ("pleural effusion", "absent", "negation-after"),
            ("pneumonia", "uncertain", "possible"),
            ("lung opacity", "absent", "normality"),
        ]
    )


def test_negspacys_component_gets_the_same_sentences_and_findings():
    """The existences of a pipeline of negspacy's own, with the findings as its entities."""
    from negspacy.negation import Negex
    from negspacy.termsets import termset

    from medground.reports.negspacy_existence import NegspacyParser

    nlp = spacy.blank("en")
    negex = Negex(nlp, "negex", termset("en_clinical").get_patterns())
    judged = 0
    for sentence in NegspacyParser().parse(medground.Report(study_id="s", text=text) for text in TEXTS):
        for each in sentence.triplets:
            if each.rule == "normality":
                continue
            doc = nlp.make_doc(sentence.text)
            for token in doc:
                token.is_sent_start = token.i == 0
            start, end = (place - sentence.start for place in each.finding_span)
            doc.ents = [doc.char_span(start, end, label="finding", alignment_mode="expand")]
            (entity,) = negex(doc).ents
            assert each.rule == "negspacy" and each.existence == ("absent" if entity._.negex else "present")
            judged += 1
    assert judged > 15
