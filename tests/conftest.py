"""What the tests share."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real, openly licensed films and reports beside a checkout, where there is one."""
    folder = ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("no ../shared/data beside this checkout: real films and reports are not there")
    return folder


@pytest.fixture(scope="session")
def toy_films(tmp_path_factory):
    """Toy films with records of each kind; they are read, never written."""
    import toy

    return toy.make(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def pretrained(toy_films, tmp_path_factory) -> Path:
    """The folder of a model that was pre-trained on `toy_films` for a step."""
    from toy_runs import pretrain

    return pretrain(toy_films, tmp_path_factory.mktemp("run") / "agp")
