"""The image cache: the same squares as from the files, made once, also after interruptions."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import toy
import warm
from click.testing import CliRunner

from medground.cli.main import cli
from medground.data import image_cache
from medground.data.image_store import ImageStore
from medground.errors import MedgroundError
from medground.models import letterboxed
from medground.records import Image

SIZE = 64


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> toy.Toy:
    return toy.make(tmp_path_factory.mktemp("toy"), count=7)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(image_cache, "TOGETHER", 2)


def run(*args: object):
    return CliRunner().invoke(cli, [str(each) for each in args])


def make(cohort: toy.Toy, folder: Path, *flags: object, source: object = None):
    listed = source or cohort.phrases
    return run("cache", listed, "--images", cohort.folder, "-o", folder, "--image-size", SIZE, *flags)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def images_of(source: str) -> list[Image]:
    lines = [json.loads(line) for line in Path(source).read_text().splitlines()]
    return [Image(image_id=each["image_id"], path=each["path"]) for each in lines]


@pytest.fixture
def made(cohort, tmp_path) -> Path:
    result = make(cohort, tmp_path / "cache")
    assert (result.exit_code, result.output) == (0, "")
    return tmp_path / "cache"


def test_an_image_of_the_cache_is_the_image_of_its_file(cohort, made):
    held = image_cache.Cache(made, SIZE)
    assert len(held) == 7
    for number in range(7):
        name = f"image{number}.png"
        found, read = held.get(name), letterboxed.read(cohort.folder / name, SIZE)
        assert np.array_equal(found.square, read.square)
        assert found.letterbox == read.letterbox
    assert held.get("other.png") is None


def test_the_store_takes_what_is_in_the_cache_and_reads_the_rest(cohort, made, monkeypatch):
    (only := made / "images-00000.jsonl").write_text(only.read_text().splitlines(keepends=True)[0])
    for path in made.glob("images-0000[1-9].jsonl"):
        path.unlink()
    read = []
    monkeypatch.setattr(letterboxed, "read", lambda path, size: read.append(path.name) or path.name)
    store = ImageStore(cohort.folder, SIZE, cache=made)
    for name in ("image0.png", "image1.png", "image1.png"):
        store.get(name)
    assert read == ["image1.png"]
    assert store.uncached({"image0.png", "image1.png", "image2.png"}) == 2


def test_a_cache_of_other_files_with_the_same_paths_is_refused(cohort, made, tmp_path, monkeypatch):
    paths = [f"image{number}.png" for number in range(7)]
    for folder in (cohort.folder, tmp_path / "absent"):
        ImageStore(folder, SIZE, cache=made).require(paths)
    for path in paths:
        (tmp_path / path).write_bytes((Path(cohort.folder) / path).read_bytes() + b"\0")
    monkeypatch.setattr(image_cache, "COMPARED", 3)
    with pytest.raises(MedgroundError, match=r"image0.png: not the file that is in the cache .* \(3 of 3 "):
        ImageStore(tmp_path, SIZE, cache=made).require(paths)


def test_the_cache_is_the_same_for_any_number_of_workers(cohort, made, tmp_path):
    assert make(cohort, tmp_path / "two", "--workers", 2).exit_code == 0
    assert bytes_of(tmp_path / "two") == bytes_of(made)


def test_cached_images_are_not_made_again(cohort, made, monkeypatch):
    before = bytes_of(made)
    monkeypatch.setattr(letterboxed, "read", None)
    assert make(cohort, made).exit_code == 0
    assert bytes_of(made) == before


def test_new_images_are_added_to_the_others(cohort, tmp_path):
    first = tmp_path / "first.jsonl"
    first.write_text("".join(Path(cohort.phrases).read_text().splitlines(keepends=True)[:3]))
    make(cohort, tmp_path / "cache", source=first)
    before = bytes_of(tmp_path / "cache")
    assert make(cohort, tmp_path / "cache").exit_code == 0
    after = bytes_of(tmp_path / "cache")
    assert before.items() <= after.items()
    assert len(image_cache.Cache(tmp_path / "cache", SIZE)) == 7


def test_shares_of_several_machines_fill_one_cache(cohort, tmp_path):
    for number in (1, 2):
        assert make(cohort, tmp_path / "cache", "--shard", f"{number}/2").exit_code == 0
    assert len(image_cache.Cache(tmp_path / "cache", SIZE)) == 7
    assert len(list(image_cache.rows(tmp_path / "cache"))) == 7
    assert make(cohort, tmp_path / "cache", "--verify").exit_code == 0


KILLED = """
import os, signal, sys
from pathlib import Path
from medground.data import image_cache as cache
from medground.records import Image
cache.TOGETHER = 2
calls = []
real = cache.letterboxed.read
def read(path, size):
    calls.append(path)
    if len(calls) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(path, size)
cache.letterboxed.read = read
cohort = [Image(image_id=str(n), path=f"image{n}.png") for n in range(7)]
cache.build(cohort, Path(sys.argv[1]), Path(sys.argv[2]), 64, None)
"""


@pytest.mark.slow
def test_a_killed_run_is_continued(cohort, made, tmp_path):
    folder = tmp_path / "killed"
    done = subprocess.run([*warm.python(), "-c", KILLED, cohort.folder, folder], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(image_cache.Cache(folder, SIZE)) == 4
    half = folder / "images-00002.npy"
    half.write_bytes(b"half of it")  # as from a run that was killed between the two files of a part
    assert make(cohort, folder).exit_code == 0
    assert bytes_of(folder) == bytes_of(made)


@pytest.mark.slow
def test_no_worker_outlives_a_killed_parent(cohort, tmp_path):
    slow = KILLED.replace("if len(calls) == 6:", "import time; time.sleep(30)\n    if False:")
    slow = slow.replace("64, None)", "64, None, 2)")
    parent = subprocess.Popen([sys.executable, "-c", slow, cohort.folder, tmp_path / "cache"])
    workers: list[str] = []
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    if not children.exists():
        parent.kill()
        parent.wait()
        pytest.skip("no /proc to look at")
    while len(workers) < 2 and parent.poll() is None:
        workers = children.read_text().split()
        time.sleep(0.05)
    time.sleep(0.3)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{worker}") for worker in workers):
        assert time.monotonic() < deadline, "a worker goes on"
        time.sleep(0.05)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_unreadable_image_goes_to_the_rejects(cohort, made, tmp_path, workers):
    lines = Path(cohort.phrases).read_text().splitlines(keepends=True)
    gone = json.dumps({"image_id": "gone", "path": "gone.png", "note": 7}) + "\n"
    source = tmp_path / "list.jsonl"
    source.write_text("".join([*lines[:3], gone, *lines[3:]]))
    refused = make(cohort, tmp_path / "refused", source=source)
    assert refused.exit_code == 1
    assert "gone.png" in refused.stderr and "Traceback" not in refused.stderr
    folder, rejects = tmp_path / "cache", tmp_path / "rejects.jsonl"
    taken = make(cohort, folder, "--rejects", rejects, "--workers", workers, source=source)
    assert taken.exit_code == 0
    assert json.loads(rejects.read_text()) == json.loads(gone)
    assert len(image_cache.Cache(folder, SIZE)) == 7


def test_verify_is_content_with_a_whole_cache(cohort, made):
    assert make(cohort, made, "--verify").exit_code == 0


@pytest.mark.parametrize("key", ["width", "height"])
def test_verify_checks_the_size_of_images(cohort, made, key):
    file = next(made.glob("*.jsonl"))
    first, *rest = file.read_text().splitlines()
    line = json.loads(first)
    file.write_text("\n".join([json.dumps(line | {key: line[key] + 7}), *rest, ""]))
    result = make(cohort, made, "--verify")
    assert result.exit_code == 1
    assert f"{line['path']} ({file.stem}, row 0): width or height damaged" in result.stderr
    file.write_text("\n".join([json.dumps(line | {key: 0}), *rest, ""]))
    assert f"{file}:1: missing or damaged" in make(cohort, made, "--verify").stderr


def test_verify_names_what_is_missing_damaged_or_changed(cohort, tmp_path):
    own = tmp_path / "images"
    shutil.copytree(cohort.folder, own)
    mine = toy.Toy(own)
    make(mine, tmp_path / "cache", source=cohort.phrases)
    part = tmp_path / "cache" / "images-00001.npy"
    content = bytearray(part.read_bytes())
    content[-1] ^= 1  # of the last image of the part
    part.write_bytes(content)
    os.utime(own / "image5.png", (1, 1))
    (tmp_path / "cache" / "images-00003.jsonl").unlink()  # held image6
    result = make(mine, tmp_path / "cache", "--verify", source=cohort.phrases)
    assert result.exit_code == 1
    warned = [line for line in result.stderr.splitlines() if line.startswith("WARNING")]
    assert [line.split()[1].rstrip(":") for line in warned] == ["image6.png", "image3.png", "image5.png"]
    assert "damaged; delete images-00001.*" in warned[1] and "changed" in warned[2]


def test_images_whose_files_have_moved_are_verified(cohort, made, tmp_path):
    (tmp_path / "empty").mkdir()
    result = run(
        "cache", cohort.phrases, "--images", tmp_path / "empty", "-o", made, "--image-size", SIZE, "--verify"
    )
    assert result.exit_code == 0


def test_a_cache_of_another_size_is_refused(cohort, made):
    result = run("cache", cohort.phrases, "--images", cohort.folder, "-o", made, "--image-size", 32)
    assert result.exit_code == 1
    assert "64 px, expected 32 px" in result.stderr


def test_a_folder_that_is_no_cache_is_refused(tmp_path):
    with pytest.raises(MedgroundError, match="not an image cache"):
        image_cache.Cache(tmp_path, SIZE)


def test_a_part_that_was_cut_short_is_one_message(made):
    part = made / "images-00000.npy"
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(MedgroundError, match=r"delete images-00000\.\*"):
        image_cache.Cache(made, SIZE).get("image0.png")


@pytest.mark.parametrize("spoilt", [b'{"pa', b"{}", b"[]", b"7", b"\xff"])
def test_an_invalid_line_is_one_message(spoilt, cohort, made):
    file = made / "images-00001.jsonl"
    file.write_bytes(file.read_bytes().splitlines(keepends=True)[0] + spoilt + b"\n")
    for flags in ([], ["--verify"]):
        result = make(cohort, made, *flags)
        expected = f"Error: {file}:2: missing or damaged; delete images-00001.* and make the cache again\n"
        assert (result.exit_code, result.stderr) == (1, expected)


def test_a_full_disk_is_one_message_and_earlier_parts_are_kept(cohort, tmp_path, monkeypatch):
    real, calls = os.fsync, []

    def fsync(number):
        calls.append(1)
        if len(calls) == 4:  # cache.json, then two files a part
            raise OSError(28, os.strerror(28))
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    result = make(cohort, tmp_path / "cache")
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr
    assert len(image_cache.Cache(tmp_path / "cache", SIZE)) == 2
