"""Model files: one safetensors file with the weights and, in its header, the config that builds the network.

The same weights and config give the same bytes. Safetensors writes several header keys in any order, so there
is only one key. It has the digest of all bytes after the header, which finds a damaged file. Pickle files are
never opened: unpickling can run any code.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

import medground
from medground import output_files, strict_json
from medground.errors import BadRecord, MedgroundError

if TYPE_CHECKING:  # the header of a file is read without torch
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

KEY, DATA = "medground", "data"  # the header's key, and that of the digest in it
UNKNOWN = "?" * 64  # in the place of the digest until the bytes are known
WEIGHTS = "model.safetensors"  # in a model folder
CHANGED = "damaged, or from another model"
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

    about = {"version": medground.__version__, "config": config, DATA: UNKNOWN}
    header = {KEY: json.dumps(about, sort_keys=True)}
    whole = serialise(_apart(weights), metadata=header)  # save_file would make it readable by its owner only
    start = _start_of_data(whole)
    digest = hashlib.sha256(memoryview(whole)[start:]).hexdigest()
    kept = "the previous file was kept" if path.exists() else "this file was not saved"
    with (
        output_files.keeping(path, kept),
        output_files.replacing(path, before=before) as stream,
    ):
        stream.write(_with_digest(whole[:start], digest))
        stream.write(memoryview(whole)[start:])


def _start_of_data(start: bytes) -> int:
    """Return where the tensors begin in a file that starts with these bytes, at least eight."""
    return 8 + int.from_bytes(start[:8], "little")


def _with_digest(head: bytes, digest: str) -> bytes:
    """Return the bytes of the header with the digest in its place: JSON inside a text of JSON."""
    place = f'\\"{DATA}\\": \\"'
    before, unknown, after = head.rpartition((place + UNKNOWN).encode())
    assert unknown, "no place for the digest"
    return before + (place + digest).encode() + after


def load(path: Path, device: str = "cpu") -> tuple[dict[str, "Tensor"], dict[str, Any]]:
    """Return (weights, config) as they were passed to `save`; raises MedgroundError for any other file.

    A file of an earlier version has no digest of its weights: a changed bit in them is not found.
    """
    return _load(path, framework="pt", device=device)


def load_arrays(path: Path) -> tuple[dict[str, "NDArray[Any]"], dict[str, Any]]:
    """Return (weights, config) as `load` does, with arrays of numpy."""
    return _load(path, framework="numpy")


def _load(path: Path, **how: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    refuse_pickle(path)
    try:
        with safe_open(path, **how) as stream:
            config, digest = _header(path, stream.metadata() or {})
            _refuse_damaged(path, digest)
            weights = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except SafetensorError:
        raise MedgroundError(f"{path}: damaged, truncated or no safetensors file") from None
    return weights, config


def read_config(path: Path) -> dict[str, Any]:
    """Return only the config, without reading the weights; raises as `load` does."""
    refuse_pickle(path)
    try:
        with safe_open(path, framework="numpy") as stream:
            return _header(path, stream.metadata() or {})[0]
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


def refuse_loading_keys(config: Any, place: Path | str, way_out: str = "remove this key") -> None:
    """Raise MedgroundError if a transformers config, or a config inside it, has a key of `LOADING_KEYS`."""
    if isinstance(config, Mapping):
        if found := sorted(key for key in config.keys() & LOADING_KEYS if config[key] is not None):
            raise MedgroundError(f"{place}: has {found[0]!r}, which can load code; {way_out}")
        config = list(config.values())
    if isinstance(config, list):
        for each in config:
            refuse_loading_keys(each, place, way_out)


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


def _header(path: Path, metadata: dict[str, str]) -> tuple[dict[str, Any], Any]:
    """Return the config, and the digest of the weights, None in files of earlier versions."""
    try:
        about = strict_json.parse_loose(metadata[KEY].encode())
        config: dict[str, Any] = dict(about["config"].items())
        return config, about.get(DATA)
    except (KeyError, TypeError, AttributeError, BadRecord):
        raise MedgroundError(f"{path}: not a medground checkpoint (no config in its header)") from None


def _refuse_damaged(path: Path, digest: Any) -> None:
    """Raise MedgroundError unless the bytes after the header have this digest."""
    if digest is None:
        return
    with open(path, "rb") as stream:
        stream.seek(_start_of_data(stream.read(8)))
        if hashlib.file_digest(stream, "sha256").hexdigest() != digest:
            raise MedgroundError(f"{path}: {CHANGED}; copy it again")


def _apart(weights: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    """Return contiguous tensors on the CPU, no two sharing memory: tied weights are written twice."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in weights.items():
        each = tensor.detach().to("cpu").contiguous()
        apart[name] = each.clone() if each.untyped_storage().data_ptr() in seen else each
        seen.add(each.untyped_storage().data_ptr())
    return apart
