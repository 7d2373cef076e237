"""The process that runs ultralytics (AGPL-3.0), and the only module that imports it.

Started by `yolo.py` as `python -m medground.anatomy.yolo_process`. It reads requests from stdin, one JSON
object per line, and replies with JSON lines on stdout; the last line has `done` or `error`. The images of a
`find` request follow as bytes. Output of ultralytics goes to stderr.

    {"do": "train", "cfg": "yolo26n.yaml", "data": FILE, ...}   {"epoch": 1, ...} ... {"done": true}
    {"do": "open", "path": FILE, "pickle": false, ...}         {"done": true, "size": 640, "names": [...]}
    {"do": "find", "shape": [B, S, S]}                         {"done": true, "boxes": ..., "scores": ...}
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

Request = dict[str, Any]
Answer = Callable[[Request], None]
KIND = "yolo"
# A chest has a left and a right: no flips, and no mosaics of four images.
AUGMENTATION = {
    "fliplr": 0.0,
    "flipud": 0.0,
    "mosaic": 0.0,
    "mixup": 0.0,
    "cutmix": 0.0,
    "copy_paste": 0.0,
    "degrees": 5.0,
    "translate": 0.1,
    "scale": 0.25,
    "hsv_h": 0.0,
    "hsv_s": 0.0,
    "hsv_v": 0.3,
}


def main() -> None:
    """Serve requests until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # output of libraries is no reply
    requests, worker = sys.stdin.buffer, Worker()

    def answer(line: Request) -> None:
        answers.write(json.dumps(line).encode() + b"\n")

    for line in iter(requests.readline, b""):
        request = json.loads(line)
        {"train": worker.train, "open": worker.open, "find": worker.find}[request["do"]](
            request, requests, answer
        )


class Worker:
    """A server that keeps the network between requests."""

    def __init__(self) -> None:
        self.network: Any = None
        self.device = "cpu"

    def train(self, request: Request, _: BinaryIO, answer: Answer) -> None:
        """Train, or resume from `last`; reply once per epoch, then write the weights to `target`."""
        from ultralytics import YOLO  # type: ignore[attr-defined]

        last = Path(request["folder"], "run", "weights", "last.pt")
        model = YOLO(last if last.exists() else request["cfg"], task="detect")
        if request["start"] and not last.exists():
            model.load(request["start"])
        model.add_callback("on_fit_epoch_end", lambda trainer: _say_epoch(trainer, answer))
        if last.exists():
            model.train(resume=True)
        else:
            model.train(**_settings(request), **AUGMENTATION)
        best = last.with_name("best.pt")
        _convert(best if best.exists() else last, Path(request["target"]), request["size"])
        answer({"done": True})

    def open(self, request: Request, _: BinaryIO, answer: Answer) -> None:
        """Build the network of a checkpoint; `pickle` marks PATH as a trusted pickle."""
        from medground import checkpoints
        from medground.anatomy import yolo_architecture
        from medground.errors import MedgroundError

        try:
            if request["pickle"]:
                weights, config = _unpickle(Path(request["path"]), 640)
            else:
                weights, config = checkpoints.load(Path(request["path"]))
                yolo_architecture.check(config, Path(request["path"]))
            self.network = build(weights, config, Path(request["path"])).to(request["device"])
        except MedgroundError as error:
            answer({"error": str(error)})
            return
        self.device = request["device"]
        answer({"done": True, "size": config["size"], "names": config["names"]})

    def find(self, request: Request, stream: BinaryIO, answer: Answer) -> None:
        """Reply with the best box and score of every class on each image."""
        import numpy as np
        import torch

        from medground import ops

        count, side, _ = request["shape"]
        images = np.frombuffer(stream.read(count * side * side), np.uint8).reshape(count, 1, side, side)
        given = torch.from_numpy(images.copy()).to(self.device).float().expand(-1, 3, -1, -1) / 255
        with torch.inference_mode():
            raw = self.network(given)[0].float()  # (B, 4 + classes, A): center and size, then scores
        scores, best = raw[:, 4:].max(dim=2)  # one box per class: a region occurs once
        boxes = raw[:, :4].gather(2, best[:, None].expand(-1, 4, -1)).transpose(1, 2)
        answer({"done": True, "boxes": ops.cxcywh_to_xyxy(boxes).tolist(), "scores": scores.tolist()})


def build(weights: dict[str, Any], config: Request, path: Path) -> Any:
    """Return the network of a checkpoint, for inference; suppression is not needed with one box per class."""
    from torch import nn
    from ultralytics.nn import tasks

    from medground import checkpoints
    from medground.anatomy.yolo_architecture import layer_names
    from medground.errors import MedgroundError

    for name in layer_names(config):
        layer = getattr(nn, name[3:], None) if name.startswith("nn.") else getattr(tasks, name, None)
        if not (isinstance(layer, type) and issubclass(layer, nn.Module)):
            raise MedgroundError(f"{path}: its architecture names {name!r}, which is not a layer")
    network = tasks.DetectionModel(config["cfg"], nc=len(config["names"]), verbose=False)
    checkpoints.fit(network, weights, path)
    network.end2end = False
    return network.eval()


def _settings(request: Request) -> Request:
    same = {name: request[name] for name in ("data", "epochs", "batch", "device", "seed")}
    quiet = {"plots": False, "verbose": False, "exist_ok": True, "pretrained": False, "workers": 0}
    place = {"project": request["folder"], "name": "run"}
    return same | quiet | place | {"imgsz": request["size"], "amp": request["device"] != "cpu"}


def _say_epoch(trainer: Any, answer: Answer) -> None:
    """One line for metrics.jsonl: losses, precision, recall and AP. Each epoch is logged once."""
    if trainer.epoch >= trainer.epochs:
        return
    losses = trainer.label_loss_items(trainer.tloss, prefix="train")
    figures = {**losses, **trainer.metrics}
    answer({"epoch": trainer.epoch + 1, **{name: round(float(each), 6) for name, each in figures.items()}})


def _unpickle(path: Path, size: int) -> tuple[dict[str, Any], Request]:
    """Return (weights, config) of a trusted ultralytics pickle: reading it runs its author's code."""
    import torch

    pickled = torch.load(path, map_location="cpu", weights_only=False)
    network = (pickled.get("ema") or pickled["model"]).float()
    size = int((pickled.get("train_args") or {}).get("imgsz") or size)
    names = [network.names[n] for n in range(len(network.names))]
    config = {"kind": KIND, "cfg": network.yaml, "names": names, "size": size}
    return network.state_dict(), config


def _convert(pickled: Path, target: Path, size: int) -> None:
    """Our own run's pickle as a checkpoint."""
    from medground import checkpoints

    checkpoints.save(target, *_unpickle(pickled, size))


if __name__ == "__main__":
    main()
