"""The kinds of entries, and tables that other packages can add entries to."""

import importlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from medground.errors import MedgroundError
from medground.registry.installed import entry_points

log = logging.getLogger(__name__)
# what an import of a module of another package may raise
BROKEN = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError, MedgroundError),
    *(MemoryError, NameError, OSError, RuntimeError, SyntaxError, TypeError, ValueError),
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A thing with a name: where its code is, and a help text."""

    target: str
    help: str

    def load(self) -> Any:
        """Return the attribute that `target` names; raise MedgroundError if it cannot be imported."""
        return attribute(self.target)

    def describe(self) -> str:
        """Return what --help says of the entry."""
        return self.help


def attribute(target: str) -> Any:
    """Return the attribute of "module:attribute"; raise MedgroundError if there is none."""
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise MedgroundError(f"{target}: cannot be imported: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Architecture(Entry):
    """A `models.network.Network`; `features` are what objectives may require of it.

    several-boxes: a phrase can have more than one box. reg-token: as TransVG's [REG]. soft-tokens: with
    --norm post, as MDETR's queries. plain-patches: patches have the network's width, without further columns.
    """

    features: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A named loss: its default weight, and the feature of architectures that it requires."""

    weight: float
    requires: str | None = None
    published: bool = True  # the weight is that of the paper


@dataclass(frozen=True, kw_only=True)
class Objective(Entry):
    """An `objectives.objective.Objective`: the commands that offer it, its losses, and its inputs.

    fuses: uses the network's predictions for (image, phrase) pairs. trains_boxes: trains the prediction of
    boxes. reads_reports: uses whole reports. requires: a feature of the architecture.
    """

    stages: frozenset[str]
    losses: Mapping[str, Loss]
    fuses: bool = False
    trains_boxes: bool = False
    reads_reports: bool = False
    requires: str | None = None

    def weights(self, features: frozenset[str]) -> dict[str, float]:
        """Return the default weight of each loss that architectures with these features have."""
        return {
            name: each.weight
            for name, each in self.losses.items()
            if each.requires is None or each.requires in features
        }

    def describe(self) -> str:
        """Return the help text with the losses and their default weights."""
        parts = [
            f"{name} {each.weight:g}" + (f" ({each.requires})" if each.requires else "")
            for name, each in self.losses.items()
        ]
        return f"{self.help}. Losses: {', '.join(parts)}"


@dataclass(frozen=True, kw_only=True)
class Detector(Entry):
    """A detector of regions: `target(path, device)` loads it, `trainer(images, folder, options)` trains it.

    The loaded object is an `anatomy.detect.Detector`; see `training.detectors.trainers` for the trainer.
    stored_as: whether a trained detector is a file or a folder. needs_start: training starts from weights.
    chooses_lr: the trainer has no learning rate option. reads_pickle: `target` takes `trust_pickle` too.
    takes_encoder: the trainer can start from an image encoder.
    """

    trainer: str
    stored_as: Literal["file", "folder"] = "file"
    needs_start: bool = False
    chooses_lr: bool = False
    reads_pickle: bool = False
    takes_encoder: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelAdapter(Entry):
    """A kind of models that transformers loads: `target(source)` returns an adapter.

    adapter: a `grounding.adapters.model.Adapter`. source: a `grounding.adapters.sources.Source`. model_types:
    those of config.json. several: it finds more than one box for a phrase. none: it can find no box. scores:
    its boxes have scores. needs_code: its folder has code that runs.
    """

    model_types: tuple[str, ...]
    several: bool = True
    none: bool = True
    scores: bool = False
    needs_code: bool = False


@dataclass(frozen=True, kw_only=True)
class MaskFormat(Entry):
    """Mask files: `target(path, request)` yields (class, (H, W) mask, (H, W) scores or None).

    `request` is an `anatomy.mask_boxes.Request`. suffixes: of the file of one image. folders: masks may be a
    folder of the image's name. needs_names: only --mask-names gives classes a meaning. all_images: loads a
    single file with the masks of all images, as `anatomy.coco:load` does.
    """

    suffixes: tuple[str, ...]
    folders: bool = False
    needs_names: bool = False
    all_images: str | None = None


@dataclass(frozen=True, kw_only=True)
class Protocol(Entry):
    """A way to score predictions; `reads` says what its files hold."""

    reads: Literal["phrases", "anatomy", "heatmaps", "labels", "masks", "questions", "reports"] = "phrases"


@dataclass(frozen=True, kw_only=True)
class PredictionFormat(Entry):
    """A file format of predictions: `target(stream, bad_lines, take)`, as in `evaluation.inputs.readers`.

    frame: of its boxes, without --coordinates. frames: those that --coordinates may name (None: any).
    """

    frame: str = "original"
    frames: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class OutputFormat(Entry):
    """A file format of groundings: `target(stream, groundings)`, of (Phrase, Grounding) pairs.

    one_per_image: it writes a folder, `target(groundings, images, folder)`. check: `check(path)` raises
    MedgroundError for an image that it cannot write about. resumable: `ground --resume` can read it.
    """

    one_per_image: bool = False
    check: str | None = None
    resumable: bool = False


@dataclass(frozen=True, kw_only=True)
class Dataset(Entry):
    """Published files: `target(source, take, **options)` yields records; a subcommand of `convert`.

    source: "tree" is a Path, "table" is a Path or the binary stdin. options: names in `cli.convert.OPTIONS`,
    each a keyword argument. splits: records have `extra["split"]`, so --split is offered. example: arguments
    for the help text.
    """

    records: Literal["reports", "images", "phrases", "labels", "masks", "questions"]
    source: Literal["tree", "table"] = "table"
    options: tuple[str, ...] = ()
    splits: bool = True
    example: str = ""


E = TypeVar("E", bound=Entry)


@dataclass(eq=False)
class Table(Mapping[str, E], Generic[E]):
    """Entries by name: ours first, then those of other packages, which are looked up when first needed."""

    group: str
    kind: type[E]
    built_in: Mapping[str, E]
    _others: dict[str, E] | None = field(default=None, repr=False)

    def __getitem__(self, name: str) -> E:
        found = self.built_in.get(name)
        return self._added()[name] if found is None else found

    def __iter__(self) -> Iterator[str]:
        return iter([*self.built_in, *self._added()])

    def __len__(self) -> int:
        return len(self.built_in) + len(self._added())

    def where(self, **fields: Any) -> list[str]:
        """Return the names of the entries whose fields have these values."""
        return [
            name
            for name, entry in self.items()
            if all(getattr(entry, key) == value for key, value in fields.items())
        ]

    def _added(self) -> dict[str, E]:
        if self._others is None:
            self._others = {}
            for point in entry_points(group=self.group):
                self._add(point)
        return self._others

    def _add(self, point: Any) -> None:
        """Add the entry of another package; warn and leave it out if it is broken or its name is taken."""
        source = f"package {point.dist.name}: {self.group} {point.name!r}"
        try:
            entry = point.load()
            entry = attribute(entry) if isinstance(entry, str) else entry
        except BROKEN as error:
            reason = " ".join(str(error).split())
            log.warning("%s is left out, it cannot be loaded: %s: %s", source, type(error).__name__, reason)
            return
        if not isinstance(entry, self.kind):
            log.warning("%s is left out: expected a medground.registry.%s", source, self.kind.__name__)
        elif point.name in self.built_in or point.name in self._added():
            log.warning("%s is left out: the name is already taken; choose another one", source)
        else:
            self._added()[point.name] = entry


def one_of(names: Iterable[str]) -> str:
    """Return the names as text: "a", "a or b", "a, b or c"."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
