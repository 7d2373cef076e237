"""The folder of a model: which files it holds, and what they state.

    config.json               the network's config
    model.safetensors         weights; the header holds the training record
    tokenizer.json            with tokenizer_config.json, the tokenizer
    heads.safetensors         the heads of the objectives that pretrain or finetune used
    calibration.json          of `medground calibrate`: calibrated scores and margins
    orientation.safetensors   of `medground calibrate --flip-correction`: detects flipped images
    engine.json               of `medground export`, with the graphs image.xml and phrases.xml

Each reader returns plain values; the modules that use them check their meaning.

All files of a prediction belong together. The weights hold hashes of config and tokenizer, the export holds
those of its graphs too, and calibration and flip correction hold the model's name and their own digest. So a
file that is damaged, or from another folder, is an error. Models of earlier versions have no such hashes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medground import checkpoints, strict_json
from medground.errors import BadRecord, MedgroundError

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONFIG, TOKENIZER, CALIBRATION = "config.json", "tokenizer.json", "calibration.json"
WEIGHTS = checkpoints.WEIGHTS
FLIP_CORRECTION, EXPORT, HEADS = "orientation.safetensors", "engine.json", "heads.safetensors"
COPY_AGAIN = "copy the model folder again"
CHANGED = checkpoints.CHANGED
FILES, DIGEST = "files", "digest"  # keys: hashes of other files, and of the other keys


@dataclass(frozen=True)
class ModelDir:
    """A model folder, or the folder of an export."""

    path: Path

    @property
    def weights(self) -> Path:
        """The weights file; raises MedgroundError if there is none."""
        return self._file(WEIGHTS)

    @property
    def name(self) -> str:
        """The model's name: the hash of its weights."""
        return checkpoints.hash_of(self.weights)

    @property
    def has_weights(self) -> bool:
        """True if the folder has weights; a folder with only an export does not."""
        return (self.path / WEIGHTS).is_file()

    @property
    def has_export(self) -> bool:
        """True if the folder has an export."""
        return (self.path / EXPORT).is_file()

    @property
    def has_flip_correction(self) -> bool:
        """True if the folder has a flip correction."""
        return (self.path / FLIP_CORRECTION).is_file()

    def require(self) -> None:
        """Raise MedgroundError unless config, weights and tokenizer are there."""
        for name in (CONFIG, WEIGHTS, TOKENIZER):
            self._file(name)

    def config(self) -> dict[str, Any]:
        """Return the values of config.json.

        Raises MedgroundError if it is missing or damaged, or has a key that can load code.
        """
        values = self._json(CONFIG, COPY_AGAIN)
        checkpoints.refuse_loading_keys(values, self.path / CONFIG)
        return values

    def calibration(self) -> dict[str, Any] | None:
        """Return the values of calibration.json, None if there is none."""
        if not (self.path / CALIBRATION).is_file():
            return None
        return self._digested(CALIBRATION, "run medground calibrate again")

    def flip_correction(self) -> tuple[dict[str, "NDArray[Any]"], dict[str, Any]] | None:
        """Return (arrays, config) of the flip correction, None if there is none."""
        return checkpoints.load_arrays(self.path / FLIP_CORRECTION) if self.has_flip_correction else None

    def export(self) -> dict[str, Any]:
        """Return the values of engine.json; raises MedgroundError if it is missing or damaged."""
        if not self.has_export:
            raise MedgroundError(f"{self.path}: no {EXPORT}; create it with medground export")
        return self._digested(EXPORT, "run medground export again")

    def training_record(self) -> dict[str, Any] | None:
        """Return the training record of the weights, or of the export; None if the folder has neither.

        `subjects` are hashes of the training subjects and images. `leakage` is true if validation or test
        subjects were among them. {} for a model whose training recorded nothing.
        """
        if not (self.has_weights or self.has_export):
            return None
        values = checkpoints.read_config(self.weights) if self.has_weights else self.export()
        record = values.get("record") or {}
        if not isinstance(record, dict):
            raise MedgroundError(f"{self.path}: damaged training record; {COPY_AGAIN}")
        return record

    def hashes(self, names: Iterable[str]) -> dict[str, str]:
        """Return the hash of each of these files that is there."""
        there = sorted(name for name in names if (self.path / name).is_file())
        return {name: checkpoints.hash_of(self.path / name) for name in there}

    def refuse_changed(self, held: Any, hint: str) -> None:
        """Raise MedgroundError unless the files have the hashes that a header, `held`, has under "files"."""
        files = held.get(FILES) if isinstance(held, dict) else None
        if not isinstance(files, dict):
            return
        for name, hash in files.items():
            if checkpoints.hash_of(self._file(name)) != hash:
                raise MedgroundError(f"{self.path / name}: {CHANGED}; {hint}")

    def _file(self, name: str) -> Path:
        if not (self.path / name).is_file():
            hint = "a model is a folder with config.json, model.safetensors and a tokenizer"
            raise MedgroundError(f"{self.path}: no {name}; {hint}")
        return self.path / name

    def _digested(self, name: str, hint: str) -> dict[str, Any]:
        """Return the values of a JSON file without its digest; raise MedgroundError if they do not fit it."""
        values = self._json(name, hint)
        held = values.pop(DIGEST, None)
        if held is not None and held != checkpoints.digest_of(values):
            raise MedgroundError(f"{self.path / name}: {CHANGED}; {hint}")
        return values

    def _json(self, name: str, hint: str) -> dict[str, Any]:
        path = self._file(name)
        try:
            values = strict_json.config(path)
        except BadRecord as bad:
            raise MedgroundError(f"{path}: {bad.problem}; {hint}") from None
        if not isinstance(values, dict):
            raise MedgroundError(f"{path}: no JSON object; {hint}")
        return values
