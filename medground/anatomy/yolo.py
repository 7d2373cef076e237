"""ultralytics' YOLO as a detector of regions, in a process of its own.

ultralytics is AGPL-3.0, reports home, installs packages and draws with a font that it downloads. So it runs
only in `yolo_process.py`, without a network, with a temporary settings folder.
"""

import importlib.util
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medground import checkpoints
from medground.anatomy import regions
from medground.anatomy.detect import Found, best_of_each, doubt_of
from medground.anatomy.image_set import ImageSet
from medground.errors import MedgroundError
from medground.images import Pixels

KIND = "yolo"
MISSING = "ultralytics is not installed: pip install medground[yolo] (its licence is AGPL-3.0)"
ENVIRONMENT = {  # SAFE_LOAD: an architecture is never evaluated; a trusted pickle is read by torch itself
    "YOLO_OFFLINE": "1",
    "YOLO_AUTOINSTALL": "0",
    "ULTRALYTICS_SKIP_REQUIREMENTS_CHECKS": "1",
    "ULTRALYTICS_SAFE_LOAD": "1",
}
SIZE, EPOCHS = 640, 100
DOUBT = 0.05  # YOLO's scores are the quality of a box, not the probability of the region
LOOK_EVERY = 0.5  # seconds between two checks for a stop request


def check(start: Path | str | None = None, trust_pickle: bool = False) -> None:
    """Raise MedgroundError if ultralytics is missing, or START is an untrusted pickle."""
    if importlib.util.find_spec("ultralytics") is None:
        raise MedgroundError(MISSING)
    if start and not trust_pickle:
        checkpoints.refuse_pickle(Path(start))


class Process:
    """A running yolo_process; its output is kept for the error message."""

    def __init__(self, log: Path | None = None) -> None:
        check()
        self._home = tempfile.TemporaryDirectory(prefix="medground-yolo-")
        _lay_font(Path(self._home.name, "Ultralytics"))
        self._log = log or Path(self._home.name, "log")
        try:
            self._child = self._start()
        except OSError:
            self._home.cleanup()
            raise
        assert self._child.stdin and self._child.stdout  # both are pipes
        self._to, self._from = self._child.stdin, self._child.stdout

    def _start(self) -> "subprocess.Popen[bytes]":
        with open(self._log, "wb") as messages:
            return subprocess.Popen(
                [sys.executable, "-m", "medground.anatomy.yolo_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=messages,
                env={**os.environ, **ENVIRONMENT, "YOLO_CONFIG_DIR": self._home.name},
            )

    def ask(
        self, request: dict[str, Any], data: bytes = b"", stop: Callable[[], bool] = bool
    ) -> Iterator[Any]:
        """Yield the replies to one request; return early if `stop` is set."""
        self._to.write(json.dumps(request).encode() + b"\n" + data)
        self._to.flush()
        while not stop():
            if not select.select([self._from], [], [], LOOK_EVERY)[0]:
                continue
            line = self._from.readline()
            if not line:
                if stop():
                    return
                raise MedgroundError(f"ultralytics failed: {self._last_words()}")
            answer = json.loads(line)
            if "error" in answer:
                raise MedgroundError(answer["error"])
            yield answer
            if "done" in answer:
                return

    def _last_words(self) -> str:
        """Return the last line that the child printed."""
        self._child.wait()
        lines = self._log.read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")

    def close(self) -> None:
        """Kill the child process."""
        self._child.terminate()
        self._child.wait()
        for stream in (self._to, self._from):
            stream.close()
        self._home.cleanup()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _lay_font(folder: Path) -> None:
    """Put a font into the folder that ultralytics checks before a download."""
    folder.mkdir(parents=True)
    spec = importlib.util.find_spec("matplotlib")
    assert spec and spec.origin  # ultralytics depends on it
    font = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    shutil.copyfile(font, folder / "Arial.ttf")


class YoloDetector:
    """A trained YOLO network in its own process."""

    def __init__(self, path: Path, device: str, trust_pickle: bool = False):
        check(str(path), trust_pickle)
        self.model, self._process = checkpoints.hash_of(path), Process()
        pickled = checkpoints.is_pickle(path)
        request = {"do": "open", "path": str(path), "device": device, "pickle": pickled}
        try:
            (answer,) = self._process.ask(request)
        except MedgroundError:
            self._process.close()
            raise
        self.size: int = answer["size"]
        self.names = [regions.NAME_OF.get(name.lower()) for name in answer["names"]]
        if not any(self.names):
            raise MedgroundError(f"{path}: none of its classes is a region of medground")
        self.doubt = doubt_of(self.names, DOUBT)

    def find(self, squares: Pixels) -> list[list[Found]]:
        """Return the best box of every region on each image, at any score."""
        data = np.rint(squares * 255).astype(np.uint8)
        (answer,) = self._process.ask({"do": "find", "shape": data.shape}, data.tobytes())
        return [
            best_of_each(self.names, *each) for each in zip(answer["boxes"], answer["scores"], strict=True)
        ]

    def close(self) -> None:
        """End the process."""
        self._process.close()


@dataclass(frozen=True, kw_only=True)
class Options:
    """Training options of YOLO; `cfg` is an architecture of ultralytics, `start` initial weights."""

    epochs: int = EPOCHS
    batch: int = 16
    size: int = SIZE
    seed: int = 0
    device: str = "cpu"
    cfg: str = "yolo26n.yaml"
    start: Path | str | None = None


def train(
    learned: ImageSet,
    checked: ImageSet | None,
    folder: Path,
    options: Options,
    log: Callable[[dict[str, Any]], None],
    stop: Callable[[], bool],
) -> bool:
    """Train on the images and leave FOLDER/model.safetensors; return True when done, False when stopped.

    `log` gets the metrics of each epoch. After a stop, the same call continues after the last complete epoch.
    """
    data = _write_data(folder / "yolo", learned, checked or learned)
    request = {
        "do": "train",
        "data": str(data),
        "folder": str((folder / "yolo").resolve()),
        "target": str(folder / "model.safetensors"),
        **vars(options),
    }
    with Process(folder / "yolo.log") as process:
        for answer in process.ask(request, stop=stop):
            if "done" in answer:
                return True
            log(answer)
    return False


def _write_data(folder: Path, learned: ImageSet, checked: ImageSet) -> Path:
    """Return write the images in ultralytics' layout and return the path of its data file."""
    for split, images in (("train", learned), ("val", checked)):
        pictures, labels = folder / "images" / split, folder / "labels" / split
        pictures.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        for n in range(len(images)):
            Image.fromarray(images.squares[n]).save(pictures / f"{n:07}.png")
            (labels / f"{n:07}.txt").write_text(_labels(images, n))
    data = {"path": str(folder.resolve()), "train": "images/train", "val": "images/val"}
    file = folder / "data.yaml"  # JSON is YAML
    file.write_text(json.dumps({**data, "names": dict(enumerate(regions.NAMES))}))
    return file.resolve()


def _labels(images: ImageSet, row: int) -> str:
    """Return one line per present region: class, center and size in shares of the side."""
    lines = []
    for n in np.flatnonzero(images.present[row] == 1):
        x1, y1, x2, y2 = images.boxes[row, n].astype(float)
        lines.append(f"{n} {(x1 + x2) / 2:.6f} {(y1 + y2) / 2:.6f} {x2 - x1:.6f} {y2 - y1:.6f}\n")
    return "".join(lines)
