"""The trackers that losses can be written for."""

import pytest

from medground.training import trackers


def test_the_trackers_are_those_of_accelerate():
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    assert trackers.NAMES.keys() == {str(each) for each in LOGGER_TYPE_TO_CLASS}
    assert trackers.OFFLINE.keys() <= trackers.NAMES.keys()


@pytest.mark.parametrize("tracker", [*trackers.NAMES])
def test_a_tracker_is_offline_unless_the_environment_says_otherwise(tracker, tmp_path, monkeypatch):
    class Engine:
        def init_trackers(self, project, init_kwargs):
            self.given = project, init_kwargs

    monkeypatch.setattr(trackers.os, "environ", {})
    engine = Engine()
    trackers.start(engine, tracker, tmp_path)
    project, more = engine.given
    assert project == ("tensorboard" if tracker == "tensorboard" else "medground")
    assert more == ({"comet_ml": {"online": False}} if tracker == "comet_ml" else {})
    assert trackers.os.environ.keys() == trackers.OFFLINE.get(tracker, {}).keys()
    monkeypatch.setattr(trackers.os, "environ", {"WANDB_MODE": "online", "COMET_START_ONLINE": "1"})
    trackers.start(engine, tracker, tmp_path)
    assert trackers.os.environ["WANDB_MODE"] == "online" and engine.given[1] == {}
