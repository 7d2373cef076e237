"""Lines that `parse-reports` writes without records, and the trie, which is built without phrases."""

import pytest

from medground import jsonl
from medground.records import Report
from medground.reports import tries
from medground.reports.parser import Options, Parser

REPORTS = [
    Report(study_id="1", text="FINDINGS: New small left effusion, moderate right edema. No pneumothorax."),
    Report(study_id="2", subject_id="p", findings="Opacity at the left base.", impression="This is a scar."),
    Report(study_id="3", text="Clear lungs.", extra={"split": "train", "text": "never in its place"}),
    Report(study_id="4", text="Kein Pneumothorax. Die Lunge ist frei, und das Herz ist nicht vergrößert."),
    Report(study_id="5", findings="Small effusion."),
    Report(study_id="6", text="HISTORY: Effusion.", indication="Edema."),
]
PATTERNS = [
    "(left|right|) (hemi|)diaphragm",
    "(small|large|) pleural (effusion|)",
    "(|old) (rib|ribs|)",
    "edema (in|of) the (lung|lungs|)",
    "w / o (a|the|) hematoma",
    "(vertebra|apex)",
    "(a|b|) (c|) (d|e)",
]


@pytest.mark.parametrize("options", [Options(), Options(all_sections=True, any_language=True)])
def test_lines_are_the_records_of_the_sentences(options):
    parser = Parser(options=options)
    for report in REPORTS:
        lines = [jsonl.line_of(each) for each in parser.lines(report)]
        assert lines == [jsonl.dumps(each) for each in parser.sentences(report)]


def test_no_region_is_passed_on_from_the_findings_to_the_impression():
    text = "Opacity at the left base."
    report = Report(study_id="1", findings=text, impression="This may be atelectasis.")
    assert [each["triplets"][0]["region"] for each in Parser().lines(report)][1] is None
    same = "This may be atelectasis. " + text
    lines = list(Parser().lines(Report(study_id="1", findings=same, impression=same)))
    assert [each["triplets"][0]["region"] for each in lines][2] is None


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("plural", [False, True])
def test_the_ends_of_a_pattern_are_those_of_its_phrases(pattern, plural):
    trie: tries.Trie = {}
    for number, node in enumerate(tries.ends(trie, pattern, british=True, plural=plural)):
        node[""] = number
    wanted = {each for words in tries.spellings(pattern) for each in tries.variants(words, plural=plural)}
    assert {words for words in _phrases(trie)} == wanted


def _phrases(trie, path=()):
    for word, node in trie.items():
        if word:
            yield from _phrases(node, (*path, word))
        else:
            yield path
