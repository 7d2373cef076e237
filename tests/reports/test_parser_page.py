"""docs/parser.md: its rules, its lexicon and its code are those of the parser."""

import ast
import json
from pathlib import Path

import parser_page
import pytest
import report_sentences
from click.testing import CliRunner

from medground import pairing
from medground.cli.main import cli
from medground.reports import lexicon
from medground.reports.parser import Options, Parser

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = [(rule, *each) for rule, each in parser_page.RULES.items() if each[2]]


@pytest.fixture(scope="module")
def parser():
    return Parser()


def triplets(parser, text: str):
    return parser.read(text, 0, len(text), [])[0]


@pytest.mark.parametrize(("rule", "existence", "meaning", "text"), EXAMPLES)
def test_the_example_of_a_rule_has_it(parser, rule, existence, meaning, text):
    assert (rule, existence) in {(each.rule, each.existence) for each in triplets(parser, text)}


def test_no_triplet_has_a_rule_that_is_not_listed(parser):
    rows = [*report_sentences.TRIPLETS, *report_sentences.EXISTENCE, *report_sentences.CHALLENGE]
    found = {each.rule for text, *_ in rows for each in triplets(parser, text)}
    assert found == {rule for rule, *_ in EXAMPLES}


def test_every_verdict_in_the_code_has_a_listed_rule():
    named = {"earlier"}  # such a finding gives no triplet
    for path in (ROOT / "medground" / "reports").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and getattr(node.func, "id", "") == "Verdict"
                and len(node.args) > 1
            ):
                named |= {node.args[1].value} if isinstance(node.args[1], ast.Constant) else set()
    assert named - {"earlier"} <= parser_page.RULES.keys()


def test_every_key_and_cue_of_a_lexicon_is_explained():
    assert parser_page.FINDING_KEYS.keys() == lexicon.Finding.__dataclass_fields__.keys()
    assert parser_page.CUES.keys() == lexicon.CUE_KINDS.keys()


@pytest.mark.slow
def test_the_example_lexicon_adds_what_it_says(tmp_path):
    own = tmp_path / "own.toml"
    own.write_text(parser_page.LEXICON)
    parser = Parser(lexicon.load(str(own)), Options())
    (coin,) = triplets(parser, "Swallowed coin.")
    assert (coin.finding, coin.existence, coin.region) == ("foreign body", "present", "mediastinum")
    (ptx,) = triplets(parser, "No trace of PTX of the left side.")
    assert (ptx.finding, ptx.existence) == ("pneumothorax", "absent")


@pytest.mark.slow
def test_the_spacy_example_runs(capsys):
    pytest.importorskip("spacy")
    exec(compile(parser_page.SPACY, "docs/parser.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == [
        "pneumothorax pneumothorax absent True []",
        "pleural effusion pleural effusion present False ['left lung']",
    ]


def test_the_page_lists_every_region_that_align_knows_and_every_finding():
    page = (ROOT / "docs" / "parser.md").read_text()
    assert all(f"| `{name}` |" in page for name in pairing.KNOWN if name)
    named = {each.name for each in lexicon.load().findings.values() if each.group != "un-mention"}
    assert all(f"| `{name}` |" in page for name in named)


def test_regions_of_the_command_are_listed():
    text = "Left hilar mass, right breast shadow, tip in the right atrium, old fracture of the left clavicle."
    result = CliRunner().invoke(cli, ["parse-reports"], input=text)
    found = {each["region"] for line in result.stdout.splitlines() for each in json.loads(line)["triplets"]}
    assert len(found - {None}) >= 3 and found <= pairing.KNOWN
