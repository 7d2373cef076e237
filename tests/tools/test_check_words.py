import pytest
from tool_runs import tool


@pytest.fixture(scope="module")
def checker():
    return tool("check_words")


@pytest.fixture
def check(checker, monkeypatch, capsys):
    """Check a text in a file; return the exit code and the findings."""

    def run(path, text):
        path.write_text(text)
        monkeypatch.setattr("sys.argv", ["check_words", str(path)])
        code = checker.main()
        return code, [line.removeprefix(f"{path}:") for line in capsys.readouterr().out.splitlines()]

    return run


@pytest.fixture
def found(check):
    """Return (line, word) of each finding in a text."""
    return lambda path, text: [tuple(line.split(" -> ")[0].split(": ", 1)) for line in check(path, text)[1]]


def test_plain_text_has_no_findings(check, tmp_path):
    assert check(tmp_path / "a.md", "Each image has a learning rate.\n") == (0, [])


def test_a_finding_names_the_place_the_word_and_the_replacement(check, tmp_path):
    assert check(tmp_path / "a.md", "One\nfilm.\n") == (1, ["2: film -> image"])


@pytest.mark.parametrize(
    "text",
    ["The model looks it up", "a network that has seen it", "one line a minute", "Films", "all but\nfor one"],
)
def test_banned_phrases_are_found(found, tmp_path, text):
    assert found(tmp_path / "a.md", text)


@pytest.mark.parametrize(
    "text", ["`film`", "```\nfilm\n```", "    film\n", "film.png", "--film-size", "film_size", "filmed"]
)
def test_code_and_parts_of_words_are_skipped(found, tmp_path, text):
    assert found(tmp_path / "a.md", text) == []


def test_comments_in_code_blocks_are_checked(found, tmp_path):
    assert found(tmp_path / "a.md", "    run it  # on a film\n") == [("1", "film")]


def test_docstrings_comments_help_and_messages_of_python_are_checked(found, tmp_path):
    source = '''"""A film."""
given = "film"  # a film
option("--x", help=("a "
    "film"))
raise BadRecord(f"{given}: a film" if given else "anew")
'''
    assert [line for line, _ in found(tmp_path / "a.py", source)] == ["1", "2", "3", "5", "5"]


def test_the_words_of_names_are_checked_in_python_and_makefiles(found, tmp_path):
    source = 'def test_a_film(films, filmed):\n    toldYou = AskedFor["film"]\n'
    names = [("1", "films"), ("1", "test_a_film"), ("2", "AskedFor"), ("2", "toldYou")]
    assert found(tmp_path / "a.py", source) == names
    makefile = "FILMS := films\nall:\n\tls $(MY_FILMS) films\n"
    assert found(tmp_path / "a.mk", makefile) == [("1", "FILMS"), ("3", "MY_FILMS")]
    assert found(tmp_path / "a.sh", "films=1\n") == []


def test_a_docstring_starts_with_a_noun_or_a_verb(found, tmp_path):
    assert found(tmp_path / "a.py", '"""What is in it."""\n') == [("1", "What")]
    assert found(tmp_path / "a.py", '"""Return what is in it."""\n') == []
