"""An export of `medground export`: two OpenVINO graphs that predict on a CPU, without torch and transformers.

`image` encodes an image once. `phrases` encodes texts and fuses them with it, for any number of texts of any
length. The graphs reproduce torch's outputs up to rounding.

Letters: S side of the square, N texts, T tokens, P patches, D width, Q boxes.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medground import model_dir
from medground.errors import MedgroundError
from medground.model_dir import ModelDir
from medground.models import graphs, tokens
from medground.models.config import GrounderConfig
from medground.models.graphs import openvino

FORMAT = 1
GRAPHS = ("image", "phrases")
AGAIN = "run medground export again"
SHARES = "shares"  # key: the file of weights that the graphs read, too


class Outputs(NamedTuple):
    """The outputs for N texts on one image, float64.

    boxes: (N, Q, 4), [cx, cy, w, h] as shares of the square. scores: (N, Q) logits of the boxes. present:
    (N,) logits that the finding is present.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    present: NDArray[np.float64]

    @classmethod
    def of(cls, arrays: Iterable[Any]) -> "Outputs":
        """Return the outputs with these arrays, in order."""
        return cls(*(np.array(each, np.float64) for each in arrays))


Query = Callable[[Any, Any], Outputs]


class EncodedImage(NamedTuple):
    """One encoded image: (1, P, D) patches, and (1, P) True for patches of image, not padding.

    Arrays, or tensors of torch on the device of the network.
    """

    patches: Any
    visible: Any

    def without_padding(self) -> "EncodedImage":
        """Return only the patches of image; those of padding are always masked."""
        return EncodedImage(self.patches[:, self.visible[0]], self.visible[:, self.visible[0]])


@dataclass(frozen=True)
class Exported:
    """A model as two compiled graphs; it can be used in place of a Grounder."""

    config: GrounderConfig
    tokenizer: Any
    name: str
    image: Any
    phrases: Any

    def tokenize(self, texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return (N, T) ids and (N, T) mask of the texts."""
        if isinstance(self.tokenizer, tokens.SavedTokenizer):
            return self.tokenizer.arrays(texts, self.config.text_tokens)
        coded = self.tokenizer(texts, truncation=True, max_length=self.config.text_tokens)
        return tokens.padded(coded["input_ids"], self.config.text_tokens, self.tokenizer.pad_token_id or 0)

    def encode(self, picture: Any) -> EncodedImage:
        """Return a (2, S, S) picture, encoded."""
        found = self.image([np.ascontiguousarray(picture)[None]]).to_tuple()
        return EncodedImage(*(np.array(each) for each in found))  # OpenVINO uses its own arrays again

    def query(self, image: EncodedImage) -> Query:
        """Return the function from (N, T) ids and mask of texts to the outputs on an encoded image."""

        def query(ids: Any, mask: Any) -> Outputs:
            return Outputs.of(self.phrases([*image, np.asarray(ids), np.asarray(mask)]).to_tuple())

        return query


class OtherExport(MedgroundError):
    """An export that was made by another version, or from other weights than those next to it."""


@dataclass(frozen=True)
class Loading:
    """An export whose graphs are being compiled in threads, and whose weights are being checked."""

    files: ModelDir
    facts: dict[str, Any]
    config: GrounderConfig
    checked: Future[None]
    graphs: list[Future[Any]]

    def ready(self) -> Exported:
        """Wait, and return the export.

        Raises OtherExport if it was made from other weights than those in its folder, and MedgroundError if
        it is damaged.
        """
        tokenizer = tokens.of_export(self.files.path, self.facts.get("pad"))
        self.checked.result()  # this error comes first, as in `start`
        try:
            compiled = [each.result() for each in self.graphs]
        except RuntimeError as error:  # of OpenVINO
            raise damaged(self.files) from error
        return Exported(self.config, tokenizer, self.facts["model"], *compiled)


def start(files: ModelDir, facts: dict[str, Any], precision: str = "f32") -> Loading:
    """Begin to load the export in a folder; its graphs will compute with this precision, "f32" or "bf16".

    Files are read before this returns, since threads would take turns with the caller to do so. facts: those
    of `ModelDir.export`. Raises OtherExport if another version made it, and MedgroundError if it is damaged,
    or needs the folder's weights and they are missing.
    """
    refuse_other_versions(files, facts)
    try:
        return _start(files, facts, precision)
    except MedgroundError:
        refuse_other_weights(files, facts)  # this error comes first: the others may follow from it
        raise


def _start(files: ModelDir, facts: dict[str, Any], precision: str) -> Loading:
    shared = files.weights if facts.get(SHARES) else None
    ov = openvino()
    files.refuse_changed(facts, AGAIN)
    config = GrounderConfig.from_json(files.config())
    core, compiled = ov.Core(), []
    pool = ThreadPoolExecutor(len(GRAPHS) + 1)
    try:
        for name in GRAPHS:
            source = graphs.read(files.path / f"{name}.xml", shared)
            compiled.append(pool.submit(source.compiled, core, config.image_size, precision))
        checked = pool.submit(refuse_other_weights, files, facts)
    except RuntimeError as error:  # a file gets shorter
        raise damaged(files) from error
    finally:
        pool.shutdown(wait=False)
    return Loading(files, facts, config, checked, compiled)


def damaged(files: ModelDir) -> MedgroundError:
    """Return the error for graphs that OpenVINO cannot read."""
    return MedgroundError(f"{files.path}: its graphs are damaged; {AGAIN}")


def refuse_other_versions(files: ModelDir, facts: dict[str, Any]) -> None:
    """Raise OtherExport if an export with these facts was written by another version."""
    if facts.get("format") != FORMAT:
        raise OtherExport(f"{files.path / model_dir.EXPORT}: written by another version; {AGAIN}")


def refuse_other_weights(files: ModelDir, facts: dict[str, Any]) -> None:
    """Raise OtherExport if an export with these facts was made from other weights than the folder's."""
    if files.has_weights and files.name != facts["model"]:
        raise OtherExport(f"{files.path / model_dir.EXPORT}: made from other weights than these; {AGAIN}")
