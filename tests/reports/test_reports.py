"""The parser of reports: existence, regions, sections, sentences and lexicons."""

from functools import reduce

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published_names import ASG, CHEXPERT, IMAGENOME, MS_CXR, names
from report_sentences import CHALLENGE, CLINICAL, EXISTENCE, NEGEX, TRIPLETS

from medground.errors import MedgroundError
from medground.records import Report
from medground.reports import lexicon, tries
from medground.reports.negspacy_terms import negspacy_terms
from medground.reports.parser import Options, Parser
from medground.reports.sections import split_sections
from medground.reports.sentences import split_sentences
from medground.reports.tokens import tokenise
from medground.reports.wordlists import read_table

PARSER = Parser()


def parsed(text: str, parser: Parser = PARSER):
    return [each for s in parser.parse_report(Report(study_id="s1", text=text)) for each in s.triplets]


def existences(text: str, finding: str, parser: Parser = PARSER) -> set[str]:
    return {each.existence for each in parsed(text, parser) if each.finding == finding}


# Sentences of one kind are one test: a test for each of them takes seconds for thousands.
def test_a_sentence_says():
    found = [(text, [(t.region, t.finding, t.existence) for t in parsed(text)]) for text, _ in TRIPLETS]
    assert [each for each, wanted in zip(found, TRIPLETS, strict=True) if each[1] != wanted[1]] == []


def test_a_finding_exists_or_not():
    found = [(*case, existences(*case[:2])) for case in EXISTENCE]
    wrong = [each for each in found if (each[2] not in each[3] if each[2] else "present" in each[3])]
    assert wrong == []


def test_all_that_is_said_of_a_finding_agrees():
    found = [(*case, existences(*case[:2])) for case in CHALLENGE]
    wrong = [each for each in found if (each[3] != {each[2]} if each[2] else "present" in each[3])]
    assert wrong == []


def test_likely_can_be_read_as_present():
    text = "Likely left basilar atelectasis. Possible pneumonia."
    lenient = Parser(options=Options(likely_as="present"))
    assert [each.existence for each in parsed(text)] == ["uncertain", "uncertain"]
    assert [each.existence for each in parsed(text, lenient)] == ["present", "uncertain"]


def test_history_counts_only_on_request():
    text = "HISTORY: pneumonia.\n\nFINDINGS: No effusion."
    assert [each.finding for each in parsed(text)] == ["pleural effusion"]
    assert len(parsed(text, Parser(options=Options(all_sections=True)))) == 2


def test_a_named_section_is_that_section_whatever_it_holds():
    report = Report(study_id="s1", findings="HISTORY: Cough. No effusion.", impression="Normal.")
    assert [each.section for each in PARSER.parse_report(report)] == ["findings", "findings", "impression"]


def test_this_speaks_of_the_sentence_before_it():
    triplets = parsed("Airspace disease in the right middle lobe. This is concerning for pneumonia.")
    assert (triplets[1].region, triplets[1].region_source) == ("right mid lung zone", "inherited")
    assert parsed("Airspace disease in the right middle lobe. Possible pneumonia.")[1].region is None


def test_a_side_is_never_guessed():
    triplet = parsed("Basilar atelectasis.")[0]
    assert (triplet.region, triplet.region_source) == (None, "none")


def test_severity_and_change_are_said_of_their_finding():
    effusion, edema = parsed("Small left effusion is unchanged, with worsening moderate pulmonary edema.")
    assert (effusion.severity, effusion.change) == ("mild", "no change")
    assert (edema.severity, edema.change) == ("moderate", "worsened")


def test_the_cue_comes_with_its_place():
    text = "Lungs clear. There is no evidence of pneumothorax."
    triplet = parsed(text)[-1]
    assert triplet.cue == "no evidence of" and triplet.rule == "negation-before"
    assert text[slice(*triplet.cue_span)] == triplet.cue


def test_known_sentences_say_the_same_wherever_they_stand():
    alone = parsed("Small right effusion.")[0]
    later = parsed("Heart size normal. Small right effusion.")[1]
    assert later.finding_span == tuple(place + 19 for place in alone.finding_span)
    assert (later.region, later.severity) == (alone.region, alone.severity)


WORDS = st.sampled_from(
    [
        *(
            "No",
            "small",
            "left",
            "effusion.",
            "Pneumothorax;",
            "is",
            "not",
            "seen,",
            "1.2",
            "cm",
            "IMPRESSION:",
            "nodule",
        ),
        *(
            "XXXX",
            "the",
            "lungs",
            "are",
            "clear",
            "___",
            "–",
            "(resolved)",
            "atelectasis/pneumonia",
            "versus",
            "at",
        ),
        *("base", "2.", "-", "bilateral", "İ", "ß", "ﬁ", "\ufeff", "\n\n", "\r\n", "\n"),
    ]
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(WORDS | st.text(max_size=4), max_size=40).map(" ".join))
def test_spans_are_places_in_the_report_as_given(text):
    for sentence in PARSER.parse_report(Report(study_id="s1", text=text)):
        assert text[sentence.start : sentence.end] == sentence.text
        for each in sentence.triplets:
            for span in (each.finding_span, each.region_span, each.cue_span):
                assert span is None or sentence.start <= span[0] < span[1] <= sentence.end
            assert each.cue is None or text[slice(*each.cue_span)] == each.cue


def slow_tokens(text: str):
    """Words of letters with an apostrophe inside, numbers, and the signs the parser looks at, one by one."""
    lower = "".join(small if len(small := each.lower()) == 1 else each for each in text)
    words = [lower[start:end] for start, end in zip(*tokenise(text)[1:], strict=True)]
    return [{"&": "and", "lt": "left", "rt": "right"}.get(each, each) for each in words]


@pytest.mark.slow
@given(st.text(max_size=60))
def test_words_stand_where_they_are_said_to(text):
    assert tokenise(text)[0] == slow_tokens(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Rt & lt bases", ["right", "and", "left", "bases"]),
        ("w/o edema", ["without", "edema"]),
        ("effusion w/ collapse", ["effusion", "with", "collapse"]),
        ("rigth lft", ["right", "left"]),
        ("c/w pneumonia", ["c", "/", "w", "pneumonia"]),
    ],
)
def test_short_forms_are_read_as_their_words(text, words):
    assert tokenise(text)[0] == words


# ---- sections and sentences


def sections(text: str):
    return [(each.name, text[each.start : each.end].strip()) for each in split_sections(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Lungs clear.", [("text", "Lungs clear.")]),
        (
            "FINAL REPORT\n INDICATION:  Cough.\n\n FINDINGS:  Clear.\n\n IMPRESSION:  Normal.",
            [
                ("other", ""),
                ("history", "Cough."),
                ("findings", "Clear."),
                ("impression", "Normal."),
            ],
        ),
        ("Findings: Clear. IMPRESSION: Normal.", [("findings", "Clear."), ("impression", "Normal.")]),
        ("FINDINGS AND IMPRESSION: Clear.", [("findings", "Clear.")]),
        ("WET READ: Clear.\nADDENDUM: Seen.", [("impression", "Clear."), ("impression", "Seen.")]),
        ("CHEST, PA AND LATERAL: Clear.", [("findings", "Clear.")]),
        ("conclusion: Clear.", [("impression", "Clear.")]),
        (
            "EXAM: Chest.\n\nCOMPARISON: None.\n\nThe lungs are clear.",
            [("technique", "Chest."), ("comparison", "None."), ("last_paragraph", "The lungs are clear.")],
        ),
        (
            "The lungs are clear today.\nIMPRESSION: Normal.",
            [("text", "The lungs are clear today."), ("impression", "Normal.")],
        ),
    ],
)
def test_sections_are_found(text, expected):
    assert sections(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Normal.No edema.", ["Normal.", "No edema."]),
        ("A 1.2 cm nodule. Dr. Smith knows.", ["A 1.2 cm nodule.", "Dr. Smith knows."]),
        ("Scar vs. mass. Size 3 mm. in the apex.", ["Scar vs. mass.", "Size 3 mm. in the apex."]),
        ("Called at 5 p.m. on Monday.", ["Called at 5 p.m. on Monday."]),
        ("See No. 2 for it.", ["See No. 2 for it."]),
        ("1. No change. 2. Small effusion", ["No change.", "Small effusion"]),
        ("1.  Clear\n2.  Effusion", ["Clear", "Effusion"]),
        ("Heart size\n is normal.", ["Heart size\n is normal."]),
        ("Heart normal\n\nLungs clear", ["Heart normal", "Lungs clear"]),
        ("- Clear\n- Effusion", ["Clear", "Effusion"]),
        ("Lungs: Clear\nPleura: Effusion", ["Lungs: Clear", "Pleura: Effusion"]),
        ("___ . ... 12", []),
    ],
)
def test_sentences_end_where_they_do(text, expected):
    assert [text[start:end] for start, end in split_sentences(text, 0, len(text))] == expected


# ---- lexicons

FINDINGS = read_table("findings.toml")["finding"]
REGIONS = read_table("regions.toml")
CUES = read_table("cues.toml")


def test_every_attribute_of_chest_imagenome_has_words():
    assert names(IMAGENOME) <= {each["name"] for each in FINDINGS if each["words"]}


@pytest.mark.parametrize(("key", "known"), [("chexpert", CHEXPERT), ("ms_cxr", MS_CXR), ("asg", ASG)])
def test_findings_map_to_known_names_only(key, known):
    assert {each[key] for each in FINDINGS if key in each} <= names(known)


def test_no_finding_is_there_twice_and_all_that_are_named_are_there():
    own = [each["name"] for each in FINDINGS]
    assert len(own) == len(set(own))
    named = {name for each in FINDINGS for name in each.get("at", {}).values()}
    named |= {name[1:] for each in read_table("states.toml")["subject"] for name in each["states"].values()}
    assert named <= set(own)


def test_no_finding_doubles_a_word_of_its_own_or_of_another():
    claimed: dict[tuple[str, ...], str] = {}
    for finding in FINDINGS:
        for pattern in finding["words"]:
            for words in tries.spellings(pattern):
                assert claimed.setdefault(words, finding["name"]) == finding["name"], words


def test_findings_lie_in_known_regions():
    levels = {each["name"] for each in REGIONS["level"]}
    places = {each["name"] for each in REGIONS["place"]}
    known = places | {f"{side} {level}" for level in levels for side in ("right", "left")}
    for each in FINDINGS:
        assert {*each.get("region", ()), *each.get("default", ())} <= known
        assert {each.get("place") or "lung", *each.get("only", ())} <= levels
        assert set(each.get("at", ())) <= levels | places


@pytest.mark.parametrize("key", [key for key in CUES if key not in ("negspacy", "prepositions", "verbs")])
def test_no_list_of_cues_doubles_an_entry(key):
    assert len(CUES[key]) == len(set(CUES[key]))


def test_every_state_of_a_subject_has_words():
    table = read_table("states.toml")
    assert {state for each in table["subject"] for state in each["states"]} <= set(table["states"])


def test_negspacys_terms_are_read_or_refused_by_name():
    refused = {*CUES["negspacy"]["doubt"], *CUES["negspacy"]["left_out"]}
    terms = {term for each in negspacy_terms().values() for term in each}
    assert refused <= terms
    trie = lexicon.load().trie
    for term in terms - refused:
        for words in tries.spellings(term):
            assert "" in reduce(lambda node, word: node.get(word, {}), words, trie), term


@pytest.fixture
def own(tmp_path):
    """A parser with a lexicon of the user's own, given as text."""

    def build(text: str) -> Parser:
        path = tmp_path / "own.toml"
        path.write_text(text, encoding="utf-8-sig")  # as editors of Windows write it
        return Parser(lexicon.load(str(path)))

    return build


@pytest.fixture(scope="module")
def clinical(tmp_path_factory):
    """A parser that knows the complaints of NEGEX and CLINICAL too."""
    path = tmp_path_factory.mktemp("lexicon") / "own.toml"
    words = sorted({words for _, words, _ in NEGEX + CLINICAL})
    path.write_text("".join(f'[[finding]]\nname = "{each}"\nwords = ["{each}"]\n' for each in words))
    return Parser(lexicon.load(str(path)))


@pytest.mark.slow
def test_negation_holds_for_any_finding(clinical):
    found = [(*case, existences(*case[:2], clinical)) for case in NEGEX + CLINICAL]
    assert [each for each in found if each[3] != {each[2]}] == []


@pytest.mark.slow
def test_a_user_adds_words_to_a_finding_and_cues(own):
    parser = own(
        '[[finding]]\nname = "pneumonia"\nwords = ["lungenentzündung"]\n[cues]\nnegation_before = ["keine"]\n'
    )
    triplet = parsed("Keine Lungenentzündung.", parser)[0]
    assert (triplet.finding, triplet.existence) == ("pneumonia", "absent")
    assert parsed("Pneumonia.", parser)[0].finding == "pneumonia"


@pytest.mark.slow
def test_a_users_words_are_taken_from_other_findings(own):
    parser = own('[[finding]]\nname = "airspace opacity"\nwords = ["airspace opacity"]\n')
    assert parsed("Airspace opacity.", parser)[0].finding == "airspace opacity"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[[finding]]\nname = "x"\nwrods = ["y"]\n', "unknown key 'wrods'"),
        ('[[finding]]\nname = "x"\nwords = "y"\n', "Expected"),
        ('[[finding]]\nwords = ["y"]\n', "name"),
        ('[cues]\nnegations = ["y"]\n', "unknown list of cues 'negations'"),
        ('[cues]\nlikely = "y"\n', "cues.likely: expected a list"),
        ("[[findings]]\n", "unknown key 'findings'"),
        ("finding = [\n", "own.toml"),
    ],
)
def test_a_bad_lexicon_is_refused_with_its_name(own, text, problem):
    with pytest.raises(MedgroundError, match=problem.replace("[", r"\[")):
        own(text)


@pytest.mark.slow
def test_a_users_finding_is_found_inside_longer_phrases_of_ours(own):
    parser = own('[[finding]]\nname = "swelling"\nwords = ["edema", "swelling"]\n')
    text = "No scalp edema. Pulmonary edema."
    assert [(each.finding, each.existence) for each in parsed(text, parser)] == [
        ("swelling", "absent"),
        ("pulmonary edema/hazy opacity", "present"),
        ("swelling", "present"),
    ]


@pytest.mark.slow
def test_words_added_to_a_finding_of_ours_leave_longer_phrases_alone(own):
    parser = own('[[finding]]\nname = "lung opacity"\nwords = ["density"]\n')
    assert parsed("Normal bone density.", parser) == []
