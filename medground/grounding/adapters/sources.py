"""The folder of a model that transformers loads: its config, its name, and its parts.

Nothing is downloaded. Weights are read from *.safetensors only. Code in the folder is run only if the user
trusts it.
"""

import hashlib
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medground import checkpoints, config_limits, registry, strict_json
from medground.compat_transformers import invalid_config, prepare_transformers
from medground.errors import BadRecord, MedgroundError

log = logging.getLogger(__name__)
CONFIG, CODE = "config.json", "auto_map"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
MARKED = re.compile(r"<.+>|\[.+\]|</?\w+>")  # a special token that is no word of a phrase
SAMPLES, BLOCK = 64, 1 << 16  # blocks of a weights file that its name depends on, and their bytes
# what transformers and the code of a model raise for an invalid folder
BROKEN = (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, AttributeError, IndexError)


@dataclass(frozen=True)
class Source:
    """A model folder, and how to load it; an adapter's target gets one.

    prompt: a text with {phrase} that replaces the adapter's own, or goes around each phrase if it has none.
    """

    folder: Path
    config: dict[str, Any]
    device: str
    trust_remote_code: bool = False
    prompt: str | None = None

    @property
    def model_type(self) -> str:
        """The kind of model, as transformers names it."""
        return str(self.config["model_type"])

    def load(self, kind: Any, **more: Any) -> Any:
        """Return kind.from_pretrained of the folder; raise MedgroundError if it cannot be loaded.

        `kind` is a class of transformers.
        """
        from safetensors import SafetensorError

        from medground.models import building

        try:
            with building.bounded(sorted(self.folder.glob("*.safetensors")), self.folder):
                return kind.from_pretrained(
                    self.folder, local_files_only=True, trust_remote_code=self.trust_remote_code, **more
                )
        except (*BROKEN, SafetensorError, invalid_config()) as error:
            log.debug("traceback:", exc_info=True)
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise MedgroundError(f"{self.folder}: transformers cannot load it: {reason}") from error

    def prompt_of(self, phrase: str) -> str:
        """Return the phrase in the prompt, if there is one."""
        return phrase if self.prompt is None else self.prompt.replace("{phrase}", phrase)

    def network(self, kind: Any) -> Any:
        """Return the network on the device, in float32 on a CPU and as it is stored on a GPU."""
        if not any(self.folder.glob("*.safetensors")):
            raise MedgroundError(
                f"{self.folder}: no *.safetensors; pickled weights may run code and are not read"
            )
        dtype = "float32" if self.device == "cpu" else "auto"
        network = self.load(kind, use_safetensors=True, dtype=dtype)
        return network.eval().to(self.device)


def read_config(folder: Path) -> dict[str, Any] | None:
    """Return the config.json of a model of transformers; None for a folder of medground, or without one."""
    path = folder / CONFIG
    if not path.is_file():
        return None
    config = _config_of(path)
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        return None
    for name in PROCESSORS:
        if (folder / name).is_file():
            _config_of(folder / name)
    return config


def _config_of(path: Path) -> Any:
    """Return the JSON value of a config; raise MedgroundError for other files and for absurd numbers."""
    try:
        config = strict_json.config(path)
    except BadRecord as bad:
        raise MedgroundError(f"{path}: {bad.problem}") from None
    config_limits.check(config, path)
    return config


def adapter_of(source: Source) -> registry.ModelAdapter:
    """Return the entry for the model's kind.

    Raises MedgroundError if there is none. Without trust, it also does so for a model that needs code of its
    own, and for a config that can load code.
    """
    if not source.trust_remote_code:
        checkpoints.refuse_loading_keys(
            source.config, source.folder / CONFIG, "remove this key, or give --trust-remote-code"
        )
    for entry in registry.MODEL_ADAPTERS.values():
        if source.model_type in entry.model_types:
            if entry.needs_code and not source.trust_remote_code:
                raise MedgroundError(
                    f"{source.folder}: its model comes with code of its own, which would run: read the *.py "
                    "files there, then give --trust-remote-code"
                )
            return entry
    known = sorted({each for entry in registry.MODEL_ADAPTERS.values() for each in entry.model_types})
    raise MedgroundError(
        f"{source.folder / CONFIG}: no adapter for its model_type; there are adapters for {', '.join(known)}"
    )


def transformers() -> Any:
    """Return the library, set to print nothing."""
    prepare_transformers()
    import transformers as library

    library.utils.logging.disable_progress_bar()
    library.utils.logging.set_verbosity_error()
    return library


def name_of(folder: Path) -> str:
    """Return 12 hex digits of the configs and weights: the name of the model in records.

    Of each weights file, its size and evenly spaced blocks count, so that large models have a name at once.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.json")):
        digest.update(path.read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with open(path, "rb") as stream:
            for number in range(SAMPLES):
                stream.seek(number * max(0, size - BLOCK) // (SAMPLES - 1), os.SEEK_SET)
                digest.update(stream.read(BLOCK))
    return digest.hexdigest()[:12]


def special_tokens(adapter: Any) -> re.Pattern[str] | None:
    """Return a pattern of the special tokens of an adapter's tokenizer, such as "<image>" and "[SEP]".

    None if the adapter has no tokenizer.
    """
    tokenizer = getattr(adapter, "tokenizer", None)
    tokenizer = tokenizer or getattr(getattr(adapter, "processor", None), "tokenizer", None)
    if tokenizer is None:
        return None
    added: dict[str, int] = getattr(tokenizer, "get_added_vocab", dict)()
    named = {*getattr(tokenizer, "all_special_tokens", ()), *added}
    marked = sorted(each for each in named if MARKED.fullmatch(each))
    return re.compile("|".join(map(re.escape, marked)), re.IGNORECASE) if marked else None


Loader = Callable[[Source], Any]
