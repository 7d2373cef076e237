"""The site key: one file for all processes of a site, and what a check can do without it."""

import logging
import re
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from keyed import KEY, recorded, unkeyed
from toy_runs import finetune, pretrain, record, run, write

from medground import checkpoints, leakage, site_key
from medground.data.examples import Example
from medground.errors import MedgroundError
from medground.models import encoders


@pytest.fixture
def key_file(tmp_path, monkeypatch) -> Path:
    """The path of a site key that does not exist yet."""
    monkeypatch.setenv(site_key.VARIABLE, str(tmp_path / "site" / "key"))
    return tmp_path / "site" / "key"


def model_of(folder: Path, record: dict) -> Path:
    folder.mkdir(exist_ok=True)
    checkpoints.save(folder / "model.safetensors", {}, {"record": record})
    return folder


def seen(number: int) -> Example:
    return Example(f"i{number}", "x", 1, 1, f"s{number}")


def test_the_first_use_creates_a_key_that_only_its_owner_can_read(key_file, caplog):
    assert site_key.find() is None and not key_file.exists(), "reading creates nothing"
    made = site_key.find_or_create()
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert [each.name for each in key_file.parent.iterdir()] == ["key"]
    assert re.fullmatch(r"[0-9a-f]{64}\n", key_file.read_text())
    assert "created the site key; keep it" in caplog.text
    assert site_key.find_or_create() == site_key.find() == made
    assert made.name not in key_file.read_text(), "its name does not reveal it"


def test_the_default_is_in_the_config_folder_of_the_user(monkeypatch, tmp_path):
    monkeypatch.delenv(site_key.VARIABLE)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert site_key.path() == tmp_path / "medground/site.key"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert site_key.path() == tmp_path / ".config/medground/site.key"


def test_processes_that_start_at_once_agree_on_one_key(key_file):
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: site_key.find_or_create(), range(16)))
    assert len(set(keys)) == 1
    assert [each.name for each in key_file.parent.iterdir()] == ["key"]


@pytest.mark.parametrize("content", [b"", b"secret\n", b"f" * 63, b"F" * 64, b"\xff" * 64, b"f" * 128])
def test_a_file_that_is_no_key_is_refused_and_not_quoted(key_file, content):
    key_file.parent.mkdir()
    key_file.write_bytes(content)
    key_file.chmod(0o600)
    with pytest.raises(MedgroundError, match=r"not a site key.*MEDGROUND_SITE_KEY.*--no-record") as caught:
        site_key.find_or_create()
    assert len(content) < 6 or content.strip().decode("latin-1") not in str(caught.value)


def test_a_key_that_cannot_be_created_is_one_message(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv(site_key.VARIABLE, str(tmp_path / "file" / "key"))
    with pytest.raises(MedgroundError, match="Not a directory; name the site key with"):
        site_key.find_or_create()


def test_a_key_that_everybody_can_read_is_warned_of(key_file, caplog):
    site_key.find_or_create()
    key_file.chmod(0o640)
    site_key.find()
    assert "every user" not in caplog.text, "a group may share it"
    key_file.chmod(0o644)
    site_key.find()
    assert "every user of this machine can read the site key" in caplog.text


def test_ids_cannot_be_recovered_from_a_record_by_hashing_all_of_them():
    digests = set(leakage.new_record(map(seen, range(5)), None, leakage=False)["subjects"])
    assert len(digests) == 10
    assert not digests & {site_key.unkeyed_digest(f"{kind}{n}") for kind in "si" for n in range(100)}


@pytest.mark.slow
def test_digests_of_many_patients_take_no_noticeable_time():
    examples = [Example(f"i{n}", "x", 1, 1, f"s{n // 3}") for n in range(30_000)]
    start = time.process_time()
    leakage.digests_of(examples, KEY)
    assert time.process_time() - start < 1, "about 0.1 s"


def warned(folder: Path, caplog) -> str:
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        leakage.training_record(folder)
    return caplog.text


def test_a_record_of_another_site_is_not_passed_in_silence(key_file, tmp_path, caplog):
    model = model_of(tmp_path / "model", recorded("s1"))
    assert f"site key and {key_file} does not exist; cannot check for leakage" in warned(model, caplog)
    site_key.find_or_create()
    assert f"site key and {key_file} has another key; cannot check for leakage" in warned(model, caplog)
    assert list(leakage.with_model({"test": [seen(1)]}, model)) == []


def test_a_record_of_this_site_is_checked_without_a_warning(tmp_path, caplog):
    model = model_of(tmp_path / "model", recorded("s1"))
    assert warned(model, caplog) == ""
    assert [each.count for each in leakage.with_model({"test": [seen(1)]}, model)] == [1]


def test_an_unkeyed_record_is_checked_with_a_warning(tmp_path, caplog):
    model = model_of(tmp_path / "model", unkeyed("s1"))
    assert "anyone with a list of IDs can recover them" in warned(model, caplog)
    assert [each.count for each in leakage.with_model({"test": [seen(1)]}, model)] == [1]


def test_a_record_of_published_ids_is_checked_without_a_key_and_without_a_warning(tmp_path, caplog):
    public = {"subjects": leakage.public_digests([seen(1)]), "key": site_key.PUBLIC}
    model = model_of(tmp_path / "model", public)
    assert warned(model, caplog) == ""
    assert [each.count for each in leakage.with_model({"test": [seen(1), seen(2)]}, model)] == [1]
    assert leakage.new_record([seen(3)], model, leakage=False)["earlier"] == [public]


def test_the_example_model_has_no_training_subjects_to_warn_of(caplog):
    from medground import shipped

    assert warned(shipped.GROUNDER, caplog) == ""


def test_a_model_from_another_site_keeps_its_record_and_gets_another(key_file, tmp_path, caplog):
    start = model_of(tmp_path / "start", recorded("s1") | {"earlier": [unkeyed("s2")]})
    new = leakage.new_record([seen(3)], start, leakage=False)
    own = site_key.find_or_create()
    assert new == {
        "subjects": sorted([own.digest("i3"), own.digest("s3")]),
        "key": own.name,
        "earlier": [recorded("s1"), unkeyed("s2") | {"key": None}],
    }
    model = model_of(tmp_path / "model", new)
    assert "has another key; cannot check" in warned(model, caplog)
    counts = {
        n: sum(each.count for each in leakage.with_model({"test": [seen(n)]}, model)) for n in (1, 2, 3)
    }
    assert counts == {1: 0, 2: 1, 3: 1}


def test_a_start_without_a_record_is_remembered(tmp_path, caplog):
    start = model_of(tmp_path / "start", {"step": 1})
    new = leakage.new_record([seen(1)], start, leakage=False)
    assert new["incomplete"] is True
    model = model_of(tmp_path / "model", new)
    assert "records only some of its training subjects; leakage may be missed" in warned(model, caplog)
    assert leakage.new_record([], model, leakage=False)["incomplete"] is True


@pytest.mark.parametrize("subjects", ["abc", {"a": 1}, [1], 7, [["a"]]])
@pytest.mark.parametrize("wrap", [lambda part: part, lambda part: {"subjects": [], "earlier": [part]}])
def test_a_damaged_record_of_a_stranger_is_one_message(tmp_path, subjects, wrap):
    model = model_of(tmp_path / "model", wrap({"subjects": subjects, "key": "x"}))
    with pytest.raises(MedgroundError, match="damaged training record"):
        leakage.training_record(model)


@pytest.mark.parametrize("record", ["x", 7, [1]])
def test_a_record_that_is_no_object_is_one_message(tmp_path, record):
    model = model_of(tmp_path / "model", record)
    for use in (leakage.training_record, lambda folder: leakage.new_record([], folder, leakage=False)):
        with pytest.raises(MedgroundError, match="damaged training record"):
            use(model)


def test_subjects_that_are_null_are_no_record(tmp_path, caplog):
    model = model_of(tmp_path / "model", {"subjects": None})
    assert "cannot check for leakage" in warned(model, caplog)
    assert leakage.new_record([], model, leakage=False)["incomplete"] is True


def test_a_key_is_not_shown_when_it_is_printed():
    assert KEY.secret.hex() not in (shown := repr(KEY)) and repr(KEY.secret) not in shown


def test_a_link_to_no_file_is_one_message(key_file):
    key_file.parent.mkdir()
    key_file.symlink_to("missing")
    with pytest.raises(MedgroundError, match="a link to a file that does not exist"):
        site_key.find_or_create()


def test_a_record_can_be_left_out_but_a_mark_of_leakage_cannot(key_file, tmp_path):
    start = model_of(tmp_path / "start", recorded("s1") | {"leakage": True})
    assert leakage.new_record([seen(1)], start, leakage=False, keep=False) == {"leakage": True}
    assert leakage.new_record([seen(1)], None, leakage=False, keep=False) == {}
    assert not key_file.exists()


@pytest.mark.slow
def test_trainings_with_no_record_hold_no_digest_and_need_no_key(toy_cohort, tmp_path, key_file):
    start = pretrain(toy_cohort, tmp_path / "agp", "--no-record")
    assert record(start) == {"step": 1}
    done = finetune(toy_cohort, tmp_path / "ft", "--init-from", start, "--no-record")
    assert done.exit_code == 0 and "cannot check for leakage" in done.stderr
    assert record(tmp_path / "ft") == {"step": 2} and not key_file.exists()


def test_evaluate_states_that_it_cannot_check(tmp_path, key_file):
    model_of(tmp_path / "model", recorded("s1"))
    own = {"image_id": "i1", "phrase_id": "p", "text": "nodule", "width": 9, "height": 9}
    truth = own | {"subject_id": "s1", "path": "x.png", "boxes": [[1, 1, 3, 3]]}
    found = own | {"boxes": [{"box": [1, 1, 3, 3], "score": 0.5}], "present": 1, "model": "m"}
    flags = ["--truth", write(tmp_path / "truth.jsonl", [truth]), "--model", tmp_path / "model"]
    result = run("evaluate", write(tmp_path / "found.jsonl", [found]), *flags, "--bootstrap-samples", "100")
    assert result.exit_code == 0, result.stderr
    assert "cannot check for leakage: name that key with MEDGROUND_SITE_KEY" in result.stderr


@pytest.mark.slow
def test_a_public_export_has_no_digest_and_nothing_of_the_run(pretrained, tmp_path):
    pytest.importorskip("openvino")
    done = run("export", "--model", pretrained, "-o", tmp_path / "public", "--public")
    assert done.exit_code == 0, done.stderr
    assert "vocabulary" not in done.stderr
    secrets = [each.encode() for each in (*record(pretrained)["subjects"], KEY.name, str(pretrained))]
    for path in (tmp_path / "public").iterdir():
        assert not [each for each in secrets if each in path.read_bytes()], path
    again = run("export", "--model", pretrained, "-o", pretrained, "--public")
    assert again.exit_code == 1 and "not empty; give --public a new folder" in again.stderr


def test_a_vocabulary_of_an_earlier_version_is_recognized_by_its_numbers():
    assert encoders.holds_numbers(encoders.build_tokenizer(["size 12 mm"]))
    assert not encoders.holds_numbers(encoders.build_tokenizer(["size mm"]))
