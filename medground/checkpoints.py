"""Model files: one safetensors file with the weights and, in its header, the config that builds the network.

The same weights and config give the same bytes. Safetensors writes several header keys in any order, so there
is only one key. Pickle files are never opened: unpickling can run any code.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

import medground
from medground import output_files
from medground.errors import MedgroundError

if TYPE_CHECKING:  # the header of a file is read without torch
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

KEY = "medground"
WEIGHTS = "model.safetensors"  # in a model folder
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def save(
    path: Path,
    weights: Mapping[str, "Tensor"],
    config: dict[str, Any],
    before: Callable[[], None] = lambda: None,
) -> None:
    """Write the weights with their config in the header.

    PATH is replaced only when everything is written. `before` is called immediately before that.
    """
    from safetensors.torch import save as serialise

    header = json.dumps({"version": medground.__version__, "config": config}, sort_keys=True)
    whole = serialise(
        _apart(weights), metadata={KEY: header}
    )  # save_file would make it readable by its owner only
    with (
        output_files.keeping(path, "the previous file was kept"),
        output_files.replacing(path, before=before) as stream,
    ):
        stream.write(whole)


def load(path: Path, device: str = "cpu") -> tuple[dict[str, "Tensor"], dict[str, Any]]:
    """Return (weights, config) as they were passed to `save`; raises MedgroundError for any other file."""
    return _load(path, framework="pt", device=device)


def load_arrays(path: Path) -> tuple[dict[str, "NDArray[Any]"], dict[str, Any]]:
    """Return (weights, config) as `load` does, with arrays of numpy."""
    return _load(path, framework="numpy")


def _load(path: Path, **how: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    refuse_pickle(path)
    try:
        with safe_open(path, **how) as stream:
            config = _config(path, stream.metadata() or {})
            weights = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except SafetensorError:
        raise MedgroundError(f"{path}: damaged, truncated or no safetensors file") from None
    return weights, config


def read_config(path: Path) -> dict[str, Any]:
    """Return only the config, without reading the weights; raises as `load` does."""
    refuse_pickle(path)
    try:
        with safe_open(path, framework="numpy") as stream:
            return _config(path, stream.metadata() or {})
    except SafetensorError:
        raise MedgroundError(f"{path}: damaged, truncated or no safetensors file") from None


def hash_of(path: Path) -> str:
    """Return the first 12 hex digits of the file's SHA-256, which are the model's name in records."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:12]


def digest_of(values: Mapping[str, Any]) -> str:
    """Return the first 12 hex digits of the SHA-256 of JSON values, for files that hold their own digest."""
    text = json.dumps(values, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def is_pickle(path: Path) -> bool:
    """Return whether torch.save or pickle wrote the file; raises OSError if there is no such file."""
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


def fit(model: "torch.nn.Module", weights: dict[str, "Tensor"], path: Path) -> None:
    """Load the weights into the model; raises MedgroundError if names or shapes belong to another
    architecture.
    """
    check_fit(model, weights, path)
    model.load_state_dict(weights)


def check_fit(model: "torch.nn.Module", weights: dict[str, "Tensor"], path: Path) -> None:
    """Raise as `fit` does, but leave the model unchanged."""
    own = model.state_dict()
    wrong = sorted(own.keys() ^ weights.keys())
    wrong += sorted(name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape)
    if wrong:
        raise MedgroundError(f"{path}: weights of another architecture ({wrong[0]} does not fit)")


def _config(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads(metadata[KEY])["config"]
        return result
    except (KeyError, TypeError, json.JSONDecodeError):
        raise MedgroundError(f"{path}: not a medground checkpoint (no config in its header)") from None


def _apart(weights: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    """Return contiguous tensors on the CPU, no two sharing memory: tied weights are written twice."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in weights.items():
        each = tensor.detach().to("cpu").contiguous()
        apart[name] = each.clone() if each.untyped_storage().data_ptr() in seen else each
        seen.add(each.untyped_storage().data_ptr())
    return apart
