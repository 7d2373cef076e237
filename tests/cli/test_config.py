"""--config: which keys a command takes from a file, and which recipes come along."""

import tomllib

import click
import pytest
from click.testing import CliRunner
from commands import COMMANDS, command_of

from medground.cli import config
from medground.cli.main import cli


@pytest.fixture
def chosen(tmp_path, monkeypatch):
    """Call a command with a config; return what its options become, or the message of a usage error."""

    def call(text: str, name: str = "pretrain", *words: str):
        (tmp_path / "run.toml").write_text(text)
        found = {}
        monkeypatch.setattr(command_of((name,)), "callback", lambda **given: found.update(given))
        flags = ["-o", str(tmp_path / "out")] if name != "align" else ["--anatomy", __file__]
        result = CliRunner().invoke(cli, [name, "--config", str(tmp_path / "run.toml"), *flags, *words])
        found["stderr"] = result.stderr
        return result.stderr if result.exit_code else found

    return call


def test_keys_are_flags_with_either_sign(chosen):
    assert chosen("batch-size = 3\n")["batch_size"] == chosen("batch_size = 3\n")["batch_size"] == 3


def test_a_flag_wins_over_the_config(chosen):
    assert chosen("lr = 1.0\n", "pretrain", "--lr", "2")["lr"] == 2


def test_one_file_serves_two_commands(chosen):
    text = "lr = 1.0\nmax-terms = 3\n[pretrain]\nsteps = 5\n[finetune]\nsteps = 7\nmulti-box = 'hull'\n"
    first, second = chosen(text, "pretrain"), chosen(text, "finetune")
    assert (first["lr"], first["max_terms"], first["steps"]) == (1.0, 3, 5)
    assert (second["lr"], second["steps"], second["multi_box"]) == (1.0, 7, "hull")
    assert "max_terms" not in second


def test_the_table_of_a_command_wins_over_shared_keys(chosen):
    assert chosen("lr = 1.0\n[pretrain]\nlr = 2.0\n")["lr"] == 2
    assert chosen("lr = 1.0\n[pretrain]\nlr = 2.0\n", "finetune")["lr"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch-sise = 3\n", "unknown key 'batch-sise'; did you mean 'batch_size'?"),
        ("[pretrian]\nlr = 1.0\n", "unknown key 'pretrian'; did you mean 'pretrain'?"),
        ("[finetune]\nmax_terms = 3\n", "[finetune]: unknown key 'max_terms'"),
        ("config = 'x'\n", "unknown key 'config'"),
        ("lr = 1.0\nrate = 2.0\n", "rate and its old name are both given"),
        ("lr = nan\n", "is not a finite number"),
        ("lr =\n", "run.toml: "),
    ],
)
def test_a_bad_config_is_refused(chosen, text, message):
    assert message in " ".join(chosen(text).split())


@pytest.mark.parametrize(
    ("name", "text", "key", "value", "new"),
    [
        ("pretrain", "rate = 2.0\n", "lr", 2.0, "lr"),
        ("finetune", "few = 2\n", "num_phrases", 2, "num_phrases"),
        ("align", "merge = false\n", "multi_region", "split", "multi_region"),
        ("align", "merge = true\n", "multi_region", "merge", "multi_region"),
        ("align", "existences = ['absent']\n", "existence", ("absent",), "existence"),
    ],
)
def test_an_old_key_works_and_warns(chosen, name, text, key, value, new):
    found = chosen(text, name)
    assert found[key] == value
    [warning] = found["stderr"].splitlines()
    assert f"is now {new}; the next release removes the old key" in warning


def test_the_key_of_a_no_flag_turns_it_off(chosen):
    assert chosen("no-join = true\n", "align")["join"] is False
    assert chosen("join = false\n", "align")["join"] is False


def test_weights_may_be_a_table(chosen):
    assert chosen("[loss_weight]\nl1 = 2\ngiou = 1\n")["loss_weight"] == {"l1": 2.0, "giou": 1.0}


def test_one_value_of_a_repeatable_option_needs_no_list(chosen):
    assert chosen("objective = 'asg'\n")["objective"] == chosen("objective = ['asg']\n")["objective"]
    message = " ".join(chosen("objective = 'asj'\n").split())
    assert "'asj' is not one of" in message and "iterable" not in message


def test_each_recipe_has_only_known_keys():
    keys = {path[0]: config.Keys(command_of(path)) for path in COMMANDS}
    assert len(config.recipes()) == 8
    for name in config.recipes():
        for key, value in tomllib.loads(config.find(name).read_text()).items():
            inside = value if isinstance(value, dict) else {key: value}
            known = (
                keys[key].known
                if isinstance(value, dict)
                else keys["pretrain"].known | keys["finetune"].known
            )
            assert {each.replace("-", "_") for each in inside} <= known.keys()


def test_an_unknown_recipe_lists_what_there_is():
    result = CliRunner().invoke(cli, ["pretrain", "--config", "agp-pretrian", "-o", "out"])
    assert result.exit_code == 2
    assert "no recipe 'agp-pretrian'; the recipes are agp-finetune, agp-mdetr, agp-pretrain" in " ".join(
        result.stderr.split()
    )


def test_a_config_may_start_with_a_byte_order_mark(chosen):
    assert chosen("\ufeffsteps = 7\n")["steps"] == 7


def test_a_name_with_a_slash_or_suffix_is_a_file(tmp_path):
    (tmp_path / "own.toml").touch()
    assert config.find(str(tmp_path / "own.toml")) == tmp_path / "own.toml"
    for name in ("own.toml", "./own"):
        with pytest.raises(click.BadParameter, match="no such file"):
            config.find(name)
