"""The default detector: one learned query per region finds its box.

Every region occurs at most once in an image, so neither matching nor suppression is needed. Query q is always
region q, its box is a prior plus an offset, and a logit is its presence.

Letters: B images, S side of the square in pixels, Q queries (regions), P positions of the feature map, D
width. Boxes are [x1, y1, x2, y2] in shares of the square's side here, in [0, 1] except for boxes beyond the
border.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

from medground import config_limits, ops
from medground.errors import MedgroundError
from medground.models import encoders, pyramid

KIND = "region-query"
SIZE = 192  # default side of the input square
STRIDE = 8  # image pixels per position of the feature map
SMALLEST = 1e-3  # minimum side of a box, as a share of the square


@dataclass(frozen=True, kw_only=True)
class Config:
    """The configuration of the network: the regions in query order, the input side, and its sizes.

    encoder: the transformers config of an image encoder in the place of the own convolutions. equalized:
    whether its images have evenly spread gray values. grey: mean and standard deviation of its images, as in
    `models.config.GrounderConfig`.
    """

    names: tuple[str, ...]
    size: int = SIZE
    channels: tuple[int, int, int, int] = (24, 48, 96, 160)
    width: int = 128
    heads: int = 4
    layers: int = 2
    encoder: dict[str, Any] | None = None
    equalized: bool = True
    grey: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.size % (2 * STRIDE) or self.size < 4 * STRIDE:
            raise MedgroundError(f"size must be a multiple of {2 * STRIDE}, at least {4 * STRIDE}")


@dataclass(frozen=True, kw_only=True)
class Use:
    """Settings of the predictions of a trained network: `use` in the header of a checkpoint, all optional.

    `inset` pixels of black are put around each image: a network that was trained on phantoms places the lower
    edges of lungs on real images better if they are smaller. `edges` of a region are added to its box, in
    shares of the box's width and height: people draw some regions otherwise than phantoms have them.
    An image whose CORE regions have a lower mean score than `doubt` is no chest. Images without a chest
    score below 0.06 even for small networks, hard real images above 0.1.
    """

    inset: int = 0
    edges: dict[str, list[float]] = field(default_factory=dict)
    doubt: float = 0.08


def take_use(header: dict[str, Any], source: str) -> Use:
    """Remove the `Use` from a header and return it; raise MedgroundError for one that is not valid."""
    try:
        use = msgspec.convert(header.pop("use", {}), Use)
    except msgspec.ValidationError as problem:
        raise MedgroundError(f"{source}: use in its config: {problem}") from None
    if use.inset < 0 or any(len(each) != 4 for each in use.edges.values()):
        raise MedgroundError(f"{source}: use in its config: expected inset >= 0, and 4 edges of a region")
    return use


def to_json(config: Config) -> dict[str, Any]:
    """Return the config for the header of a checkpoint."""
    values = {name: getattr(config, name) for name in config.__dataclass_fields__}
    own = () if config.encoder else ("encoder", "equalized", "grey")
    return {"kind": KIND} | {name: each for name, each in values.items() if name not in own}


def build_config(header: dict[str, Any], source: str) -> Config:
    """Return the config from `to_json`; raise MedgroundError for another model or an unknown key."""
    config_limits.check(header, source)
    values = dict(header)
    if values.pop("kind", None) != KIND:
        raise MedgroundError(f"{source}: not a region-query detector")
    if unknown := sorted(values.keys() - Config.__dataclass_fields__.keys()):
        raise MedgroundError(f"{source}: unknown key {unknown[0]!r} in its config; is medground older?")
    tuples: dict[str, Any] = {
        name: tuple(each) if isinstance(each, list) else each for name, each in values.items()
    }
    try:
        return Config(**tuples)
    except (TypeError, ValueError) as error:
        raise MedgroundError(f"{source}: describes no network that can be built") from error


def _conv(wide_in: int, wide_out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(wide_in, wide_out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(wide_out)
    )


class Residual(nn.Module):
    """Two convolutions with a residual connection."""

    def __init__(self, wide: int):
        super().__init__()
        self.first, self.second = _conv(wide, wide), _conv(wide, wide)

    def forward(self, features: Tensor) -> Tensor:
        return functional.relu(features + self.second(functional.relu(self.first(features))))


class Backbone(nn.Module):
    """(B, 1, S, S) -> (B, D, S / 8, S / 8): coarse features added to finer ones."""

    def __init__(self, config: Config):
        super().__init__()
        one, two, three, four = config.channels
        self.fine = nn.Sequential(
            _conv(1, one, 5, 2),
            nn.ReLU(),
            _conv(one, two, 3, 2),
            nn.ReLU(),
            Residual(two),
            _conv(two, three, 3, 2),
            nn.ReLU(),
            Residual(three),
        )
        self.coarse = nn.Sequential(_conv(three, four, 3, 2), nn.ReLU(), Residual(four), Residual(four))
        self.from_fine = nn.Conv2d(three, config.width, 1)
        self.from_coarse = nn.Conv2d(four, config.width, 1)

    def forward(self, images: Tensor) -> Tensor:
        fine = self.fine(images)
        coarse = self.from_coarse(self.coarse(fine))
        result: Tensor = self.from_fine(fine) + functional.interpolate(
            coarse, scale_factor=2.0, mode="nearest"
        )
        return result


class EncoderBackbone(nn.Module):
    """(B, 1, S, S) in [0, 1] -> (B, D, S / 8, S / 8): an image encoder's last map and its finer one, added.

    The finer map is that of S / 8, if there is one. Images are scaled as in the training of the encoder.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.encoder = encoders.build_image_encoder(dict(config.encoder or {}))
        if encoders.side_for(self.encoder, config.size) != config.size:
            raise MedgroundError(f"--image-size {config.size}: not a multiple of the encoder's patch size")
        self.equalized, self.grey, self.side = config.equalized, config.grey, config.size // STRIDE
        with torch.no_grad():
            found = self._maps(torch.zeros(2, 1, config.size, config.size))
        self.projections = nn.ModuleList(nn.Conv2d(each.shape[1], config.width, 1) for each in found)

    def _maps(self, images: Tensor) -> list[Tensor]:
        if self.equalized:
            images = (ops.equalize(images) + 1) / 2
        *finer, last = pyramid.maps(self.encoder, encoders.scaled(self.encoder, images, self.grey))
        return [*(each for each in finer if each.shape[-1] == self.side), last]

    def forward(self, images: Tensor) -> Tensor:
        maps = zip(self.projections, self._maps(images), strict=True)
        size = (self.side, self.side)
        result: Tensor = sum(functional.interpolate(to(each), size, mode="nearest") for to, each in maps)  # type: ignore[assignment]
        return result


class Attention(nn.Module):
    """Cross-attention of queries (B, Q, D) to positions (B, P, D)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.ask, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, queries: Tensor, places: Tensor) -> Tensor:
        ask, (key, value) = self.ask(queries), self.key_value(places).chunk(2, dim=-1)
        split = [each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (ask, key, value)]
        # written out: the backward pass of torch's fused attention is slow on a CPU for few queries
        share = (split[0] @ split[1].transpose(2, 3) * split[0].shape[-1] ** -0.5).softmax(-1)
        result: Tensor = self.out((share @ split[2]).transpose(1, 2).flatten(2))
        return result


class Layer(nn.Module):
    """A layer: attention to the image, attention to the other regions, feed-forward."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.look, self.compare = Attention(width, heads), Attention(width, heads)
        self.think = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def forward(self, queries: Tensor, places: Tensor) -> Tensor:
        queries = queries + self.look(self.norms[0](queries), places)
        own = self.norms[1](queries)
        queries = queries + self.compare(own, own)
        result: Tensor = queries + self.think(self.norms[2](queries))
        return result


class RegionQuery(nn.Module):
    """Images -> a box and a presence logit for every region.

    An edge of a box is the attention-weighted mean position, plus an offset. The presence logit of a region
    is its logit over the training images, plus a term of the query, plus a term of the whole image: whether
    it is a chest.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        width, side = config.width, config.size // STRIDE
        self.backbone = EncoderBackbone(config) if config.encoder else Backbone(config)
        self.rows = nn.Parameter(torch.randn(side, 1, width) * 0.1)
        self.columns = nn.Parameter(torch.randn(1, side, width) * 0.1)
        self.queries = nn.Parameter(torch.randn(len(config.names), width))
        self.places_norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(Layer(width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.edges = nn.Linear(width, 4 * width)
        self.keys = nn.Linear(width, width)
        self.offset = nn.Linear(width, 4)
        self.presence, self.chest = nn.Linear(width, 1), nn.Linear(width, 1)
        self.presence_prior: Tensor
        self.register_buffer("presence_prior", torch.zeros(len(config.names)))
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, 1, S, S) images in [0, 1] -> boxes (B, Q, 4) and presence logits (B, Q)."""
        features = self.backbone(images if self.config.encoder else ops.equalize(images))
        places = features.flatten(2).transpose(1, 2) + (self.rows + self.columns).flatten(0, 1)
        places = self.places_norm(places)
        queries = self.queries.expand(len(images), -1, -1)
        for layer in self.layers:
            queries = layer(queries, places)
        queries = self.norm(queries)
        present = self.presence(queries).squeeze(-1) + self.chest(places.amax(1)) + self.presence_prior
        return self._boxes(queries, places), present

    def _boxes(self, queries: Tensor, places: Tensor) -> Tensor:
        """Return the mean position of each edge's attention plus offset, (B, Q, 4) in float32."""
        edges = self.edges(queries).unflatten(-1, (4, -1)).flatten(1, 2)  # (B, 4 Q, D)
        scores = edges @ self.keys(places).transpose(1, 2) * self.config.width**-0.5
        share = scores.float().softmax(-1).unflatten(1, (-1, 4))  # (B, Q, 4, P)
        side = self.config.size // STRIDE
        middle = (torch.arange(side, device=share.device, dtype=torch.float32) + 0.5) / side
        across, down = middle.repeat(side), middle.repeat_interleave(side)
        mean = torch.stack([across, down, across, down])  # (4, P)
        result: Tensor = (share * mean).sum(-1) + self.offset(queries).float()
        return result


def loss_parts(
    boxes: Tensor, logits: Tensor, truth: Tensor, known: Tensor, present: Tensor
) -> dict[str, Tensor]:
    """Return the losses by name, each one scalar: `corners` (L1), `overlap` (1 - GIoU), `presence` (BCE).

    truth: (B, Q, 4); known: (B, Q) 1 where truth has a box; present: (B, Q) 1, 0, or -1 for unknown.
    Regions without a box have no box loss; it is 0 for a batch without boxes.
    """
    count = known.sum().clamp(min=1)
    corners = ((boxes - truth).abs().mean(-1) * known).sum() / count
    overlap = ((1 - ops.generalized_iou(boxes, truth, SMALLEST)) * known).sum() / count
    annotated = (present >= 0).float()
    each = functional.binary_cross_entropy_with_logits(
        logits.float(), present.clamp(min=0).float(), reduction="none"
    )
    presence = (each * annotated).sum() / annotated.sum().clamp(min=1)
    return {"corners": corners, "overlap": overlap, "presence": presence}
