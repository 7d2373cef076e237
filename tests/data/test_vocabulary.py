"""The words of a new tokenizer: no name and no number of a training text leaves with the model."""

import json

import pytest
from toy_runs import finetune, lines, pretrain, write

from medground import shipped
from medground.data import vocabulary
from medground.data.examples import Example, Query
from medground.models import encoders, grounder


def examples(text: str, patients: int, times: int = 1, **more: object) -> list[Example]:
    """Return an example with the text for each patient, `times` times in its report."""
    return [
        Example(f"i{n}", "x", 1, 1, f"s{n}", sentences=[Query((text,), ())] * times, **more)
        for n in range(patients)
    ]


def test_a_word_needs_many_occurrences_in_texts_of_many_patients():
    enough, few = vocabulary.MIN_PATIENTS, vocabulary.MIN_PATIENTS - 1
    often = -(-vocabulary.MIN_COUNT // enough)
    assert "zwigg" in vocabulary.common_words(examples("a zwigg here", enough, often))
    assert "zwigg" not in vocabulary.common_words(examples("a zwigg here", few, 100))
    assert "zwigg" not in vocabulary.common_words(examples("a zwigg here", enough))


def test_a_name_of_a_physician_in_all_reports_is_no_word():
    texts = "Discussed with Dr. Zwigglebaum. ZWIGGLEBAUM signed this."
    found = vocabulary.common_words(examples(texts, 100, 5))
    assert "discussed" not in found and "with" in found and "zwigglebaum" not in found


@pytest.mark.parametrize("text", ["8847261", "a8847261", "12mm", "0042", "٤٢", "x²"])
def test_no_word_holds_a_number_however_frequent(text):
    assert vocabulary.common_words(examples(f"image {text} read", 100, 5)) == {"image", "read"}


def test_images_of_one_patient_or_study_count_once():
    one = [Example(f"i{n}", "x", 1, 1, "s", report=["a zwigg"] * 9) for n in range(50)]
    assert vocabulary.common_words(one) == set()
    study = [Example(f"i{n}", "x", 1, 1, None, study_id="s", report=["a zwigg"] * 9) for n in range(50)]
    assert vocabulary.common_words(study) == set()
    half = [
        Example(f"i{n}", "x", 1, 1, "p" * (n % 2) + str(n // 2), report=["a zwigg"] * 9) for n in range(18)
    ]
    assert vocabulary.common_words(half) == set(), "nine patients in two spellings"


def test_negatives_made_from_texts_of_other_patients_do_not_count():
    denied = [
        Example(f"i{n}", "x", 1, 1, f"s{n}", sentences=[Query(("ok",), (), ("no zwigg",))] * 9)
        for n in range(50)
    ]
    assert vocabulary.common_words(denied) == {"ok"}


@pytest.mark.slow
def test_words_of_the_lexicon_regions_grammar_and_objectives_are_always_held():
    words = vocabulary.words_for([], ["Atypical wording?"])
    assert {"effusion", "hilar", "zone", "between", "atypical", "wording"} <= {*words}
    assert not [word for word in words if any(letter.isdigit() for letter in word)]
    assert words == sorted(set(words))


@pytest.mark.slow
def test_other_words_are_spelled_and_none_is_unknown():
    tokenizer = encoders.build_tokenizer(vocabulary.words_for([]))
    spelled = tokenizer.tokenize("effusion Zwigg 8847")
    assert spelled == ["effusion", "z", "##w", "##i", "##g", "##g", "8", "##8", "##4", "##7"]


@pytest.mark.slow
def test_a_rare_name_and_an_accession_number_do_not_leave_with_the_model(toy_cohort, tmp_path):
    note = "seen with Zwigglebaum, mrs quuxington, accession 8847261 珊"
    pairs = [each | {"text": f"{each['text']} {note}"} for each in lines(toy_cohort.pairs)[:5]]
    spiked = write(tmp_path / "pairs.jsonl", pairs)
    start = pretrain(toy_cohort, tmp_path / "agp", "--save-every", 1, pairs=spiked)
    phrases = [each | {"text": f"{each['text']} {note}"} for each in lines(toy_cohort.phrases)]
    source = write(tmp_path / "phrases.jsonl", phrases)
    done = finetune(toy_cohort, tmp_path / "ft", "--rehearse", spiked, phrases=source)
    assert done.exit_code == 0, done.output
    for folder in (start, tmp_path / "ft"):
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        assert files
        for path in files:
            content = path.read_bytes().lower()
            secrets = [b"zwigg", b"quuxington", b"88472", rb"\u73ca"]
            if path.suffix != ".safetensors":  # random weights may hold the three bytes of a letter
                secrets.append("珊".encode())
            for secret in secrets:
                assert secret not in content, (path, secret)


def test_the_example_model_loads_with_the_vocabulary_it_was_trained_with():
    held = json.loads((shipped.GROUNDER / "tokenizer.json").read_text())["model"]["vocab"]
    assert grounder.load_tokenizer(shipped.GROUNDER).get_vocab() == held
