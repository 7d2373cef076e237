"""Settings and fixtures that all tests share."""

import gc
import logging
import os
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Generator
from hashlib import sha256
from pathlib import Path

import pytest
from _pytest.logging import catching_logs
from paths import ROOT

from medground import site_key

# One thread in each process, also in those that tests start: several workers (`pytest -n 2`) then do not
# compete for the cores. Libraries read it when they are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No garbage is collected until all tests are: to look through their objects takes every worker four seconds.
gc.disable()

# Byte code of tests and of medground is kept, also by processes that tests start: compiling it again takes
# every worker seven seconds.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Training records of all tests, also in processes that they start, are made with this key.
os.environ[site_key.VARIABLE] = f"{tempfile.gettempdir()}/medground-tests-{os.getuid()}/site.key"
site_key.find_or_create()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test that needs ../shared/data as `real_data`, and put files with many slow tests first.

    Workers take whole files (`--dist loadfile`): if the last files are long, one worker waits for the other.
    """
    slow: Counter[Path] = Counter()
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.real_data)
        slow[item.path] += any(item.iter_markers("slow"))
    items.sort(key=lambda item: -slow[item.path])


def pytest_collection_finish() -> None:
    """Collect garbage again, but not among the collected tests, and not after every 700 new objects."""
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
    gc.enable()


def catch_at_root(self: catching_logs[logging.Handler]) -> logging.Handler:
    """Catch messages of the root logger, which our messages reach.

    pytest would look through the 2,000 loggers of torch, transformers and others six times per test for those
    that do not propagate: eight seconds of all tests.
    """
    root = logging.getLogger()
    root.addHandler(self.handler)
    self.attached_loggers.append(root)
    if self.level is not None:
        self.handler.setLevel(self.level)
        self.orig_level = root.level
        root.setLevel(min(self.orig_level, self.level))
    return self.handler


if "attached_loggers" in catching_logs.__slots__:  # of pytest 9.1 and newer
    catching_logs.__enter__ = catch_at_root  # type: ignore[method-assign]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real, openly licensed images and reports next to a checkout; skip if there is none."""
    folder = ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("no ../shared/data next to this checkout: it has the real images and reports")
    return folder


class AnyView:
    """A view check that takes each image for a frontal chest X-ray."""

    def square(self, image):
        return None

    def are_frontal(self, squares):
        return [True] * len(squares)

    def is_frontal(self, image):
        return True


@pytest.fixture(scope="session", autouse=True)
def load_view_check():
    """Take toy images for frontal chest X-rays, except in tests that use the fixture `real_view_check`.

    Once for all tests: a fixture that runs for each of thousands of tests takes seconds.
    """
    from medground.models import view_check

    with pytest.MonkeyPatch.context() as patch:
        start = view_check.start
        patch.setattr(view_check, "start", lambda: AnyView)
        yield start


@pytest.fixture(scope="session", autouse=True)
def skip_syncs():
    """Leave the files of tests in the page cache: to wait for the disk takes a second per hundred files."""
    real = os.fsync

    def sync(number: int) -> None:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            real(number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", sync)
        patch.setattr(os, "fdatasync", sync)
        yield


@pytest.fixture(scope="session", autouse=True)
def compile_graphs_once():
    """Compile the same graph once for all tests of a worker: for the example model it takes half a second."""
    from medground.models import graphs

    compiled, kept = graphs.Source.compiled, {}

    def compile_or_find(source, core, *how):
        files = [source.path, source.path.with_suffix(".bin"), *([source.shared] if source.shared else [])]
        content = tuple(sha256(each.read_bytes()).digest() for each in files if each.exists())
        if (content, how) not in kept:
            kept[content, how] = compiled(source, core, *how)
        return kept[content, how]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs.Source, "compiled", compile_or_find)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Restore the level of the log after each test: commands that run in the test process set it."""
    root = logging.getLogger()
    level = root.level
    try:
        return (yield)
    finally:
        if root.level != level:  # to set it goes through all loggers
            root.setLevel(level)


@pytest.fixture
def real_view_check(load_view_check, monkeypatch):
    """Check the views of images in this test, as users do."""
    monkeypatch.setattr("medground.models.view_check.start", load_view_check)


@pytest.fixture(scope="session")
def toy_cohort(tmp_path_factory):
    """Toy images with records of each kind; no test writes to them."""
    import toy

    return toy.make(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def pretrained(toy_cohort, tmp_path_factory) -> Path:
    """The folder of a model that was pre-trained on `toy_cohort` for one step."""
    from toy_runs import pretrain

    return pretrain(toy_cohort, tmp_path_factory.mktemp("run") / "agp")
