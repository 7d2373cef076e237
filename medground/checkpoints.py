"""A model on disk: one safetensors file with the weights and, in its header, the config that builds them.

Same weights and config, same bytes: safetensors writes several header keys in any order, so ours is one key.
No pickle is ever read: unpickling runs whatever code the file's author wanted.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

import medground
from medground.errors import MedgroundError

KEY = "medground"
WEIGHTS = "model.safetensors"  # in a model folder
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def save(
    path: Path,
    weights: Mapping[str, Tensor],
    config: dict[str, Any],
    before: Callable[[], None] = lambda: None,
) -> None:
    """Write the weights with their config in the header; PATH is replaced only when all is written, and
    `before` is called right before that."""
    header = json.dumps({"version": medground.__version__, "config": config}, sort_keys=True)
    partial = Path(f"{path}.partial")
    whole = serialise(_apart(weights), metadata={KEY: header})  # save_file would make it readable by us alone
    try:
        with open(partial, "wb") as stream:
            stream.write(whole)
            os.fsync(stream.fileno())
        before()
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)  # on a full disk it would stand in the way of what still fits
        raise MedgroundError(f"{path}: {error.strerror}; what it held before stands") from None


def load(path: Path, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return (weights, config) as `save` was given them; raises MedgroundError for any other file."""
    refuse_pickle(path)
    try:
        with safe_open(path, framework="pt", device=device) as stream:
            config = _config(path, stream.metadata() or {})
            weights = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except SafetensorError:
        raise MedgroundError(f"{path}: damaged, truncated or no safetensors file") from None
    return weights, config


def read_config(path: Path) -> dict[str, Any]:
    """The config alone, without reading the weights; raises as `load` does."""
    refuse_pickle(path)
    try:
        with safe_open(path, framework="pt") as stream:
            return _config(path, stream.metadata() or {})
    except SafetensorError:
        raise MedgroundError(f"{path}: damaged, truncated or no safetensors file") from None


def hash_of(path: Path) -> str:
    """The first 12 hex digits of the file's SHA-256: the name of a model in records."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:12]


def is_pickle(path: Path) -> bool:
    """Whether torch.save or pickle wrote the file; raises OSError where there is none."""
    with open(path, "rb") as stream:
        return stream.read(4).startswith(PICKLES)


def refuse_pickle(path: Path) -> None:
    """Raise MedgroundError for a file that torch.save or pickle wrote."""
    if is_pickle(path):
        raise MedgroundError(f"{path}: a pickle, which may run code when read; give a safetensors file")


# Keys of a transformers config that choose code to load or run, not the shape of a network.
LOADING_KEYS = frozenset(
    {
        "attn_implementation",
        "_attn_implementation",
        "_attn_implementation_internal",
        "quantization_config",
        "experts_implementation",
        "_experts_implementation",
    }
)


def refuse_loading_keys(config: Any, place: Path | str) -> None:
    """Raise MedgroundError if a transformers config, or a config inside it, has a key of `LOADING_KEYS`."""
    if isinstance(config, Mapping):
        if found := sorted(key for key in config.keys() & LOADING_KEYS if config[key] is not None):
            raise MedgroundError(f"{place}: has {found[0]!r}, which can load code; remove this key")
        config = list(config.values())
    if isinstance(config, list):
        for each in config:
            refuse_loading_keys(each, place)


def fit(model: torch.nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Give the model its weights; raises MedgroundError where names or shapes are another architecture's."""
    check_fit(model, weights, path)
    model.load_state_dict(weights)


def check_fit(model: torch.nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Raise as `fit` does, and leave the model as it is."""
    own = model.state_dict()
    wrong = sorted(own.keys() ^ weights.keys())
    wrong += sorted(name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape)
    if wrong:
        raise MedgroundError(f"{path}: weights of another architecture ({wrong[0]} does not fit)")


def _config(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    try:
        return json.loads(metadata[KEY])["config"]
    except (KeyError, TypeError, json.JSONDecodeError):
        raise MedgroundError(f"{path}: not a medground checkpoint (no config in its header)") from None


def _apart(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors on the CPU, no two sharing memory: tied weights are written twice."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in weights.items():
        each = tensor.detach().to("cpu").contiguous()
        apart[name] = each.clone() if each.untyped_storage().data_ptr() in seen else each
        seen.add(each.untyped_storage().data_ptr())
    return apart
