"""Tiny DETR, TransVG and MDETR, written from their published definitions, with the published names of
tensors.

Everything is sequence first and batch second inside the transformers, as in the public code.
"""

import itertools
import math

import torch
from torch import nn
from torch.nn import functional

WIDTH, HEADS, INNER, SIZE = 32, 4, 48, 128
NORMAL = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


class FrozenNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        for name in ("weight", "running_var"):
            self.register_buffer(name, torch.rand(width) + 0.5)
        for name in ("bias", "running_mean"):
            self.register_buffer(name, torch.randn(width) * 0.1)

    def forward(self, x):
        shape = (1, -1, 1, 1)
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        return x * scale.view(shape) + (self.bias - self.running_mean * scale).view(shape)


class Bottleneck(nn.Module):
    def __init__(self, before, inner, stride):
        super().__init__()
        after = inner * 4
        self.conv1, self.bn1 = nn.Conv2d(before, inner, 1, bias=False), FrozenNorm(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        self.bn2 = FrozenNorm(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, after, 1, bias=False), FrozenNorm(after)
        self.downsample = None
        if before != after or stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), FrozenNorm(after)
            )

    def forward(self, x):
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        y = self.bn3(self.conv3(y))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class Body(nn.Module):
    """ResNet with one or two bottlenecks per stage."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False), FrozenNorm(8)
        before = 8
        for number, (inner, depth) in enumerate([(4, 2), (4, 1), (8, 1), (8, 1)], start=1):
            blocks = []
            for n in range(depth):
                blocks.append(Bottleneck(before, inner, 2 if number > 1 and n == 0 else 1))
                before = inner * 4
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self.channels = before

    def forward(self, x):
        x = functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
        return x


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = Body()


def sine(mask):
    """Position codes (B, D, h, w); mask: (B, h, w), True on padding."""
    shown, each, codes = ~mask, WIDTH // 2, []
    for axis in (1, 2):
        place = shown.cumsum(axis, dtype=torch.float32)
        place = place / (place.select(axis, -1).unsqueeze(axis) + 1e-6) * 2 * math.pi
        code = torch.zeros(*mask.shape, each)
        for n in range(each):
            angle = place / 10_000 ** (2 * (n // 2) / each)
            code[..., n] = angle.sin() if n % 2 == 0 else angle.cos()
        codes.append(code)
    return torch.cat(codes, dim=3).permute(0, 3, 1, 2)


class EncoderLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(WIDTH, HEADS, dropout=0.1)
        self.linear1, self.linear2 = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x, mask, pos):
        x = self.norm1(x + self.self_attn(x + pos, x + pos, x, key_padding_mask=mask)[0])
        return self.norm2(x + self.linear2(self.linear1(x).relu()))


class Layers(nn.Module):
    def __init__(self, kind, count, norm=False):
        super().__init__()
        self.layers = nn.ModuleList(kind() for _ in range(count))
        if norm:
            self.norm = nn.LayerNorm(WIDTH)


class DecoderLayer(nn.Module):
    """MDETR's: norm2 and dropout2 of the attention to text are gone."""

    def __init__(self):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(WIDTH, HEADS, dropout=0.1)
        self.cross_attn_image = nn.MultiheadAttention(WIDTH, HEADS, dropout=0.1)
        self.linear1, self.linear2 = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
        self.norm1, self.norm3, self.norm4 = (nn.LayerNorm(WIDTH) for _ in range(3))

    def forward(self, x, start, memory, mask, pos):
        x = self.norm1(x + self.self_attn(x + start, x + start, x)[0])
        found = self.cross_attn_image(x + start, memory + pos, memory, key_padding_mask=mask)[0]
        x = self.norm3(x + found)
        return self.norm4(x + self.linear2(self.linear1(x).relu()))


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        widths = [WIDTH, WIDTH, WIDTH, 4]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))

    def forward(self, x):
        return self.layers[2](self.layers[1](self.layers[0](x).relu()).relu())


class Images(nn.Module):
    """The parts over the image that all three share: `backbone.0.body` and `input_proj`."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(Backbone())
        self.input_proj = nn.Conv2d(self.backbone[0].body.channels, WIDTH, 1)

    def features(self, images, mask):
        """Return (B, D, h, w) features, (B, h, w) mask and position codes of normalized images."""
        features = self.backbone[0].body(images)
        small = functional.interpolate(mask[None].float(), size=features.shape[-2:])[0].bool()
        return self.input_proj(features), small, sine(small)


class DETR(Images):
    """DETR with an encoder, and one decoder layer that TransVG does not use."""

    def __init__(self, decoder=True):
        super().__init__()
        self.transformer = nn.Module()
        self.transformer.encoder = Layers(EncoderLayer, 2)
        if decoder:
            self.transformer.decoder = Layers(EncoderLayer, 1, norm=True)
            self.query_embed, self.class_embed = nn.Embedding(5, WIDTH), nn.Linear(WIDTH, 92)
            self.bbox_embed = MLP()

    def forward(self, images, mask):
        features, small, pos = self.features(images, mask)
        x, pos = (each.flatten(2).permute(2, 0, 1) for each in (features, pos))
        for layer in self.transformer.encoder.layers:
            x = layer(x, small.flatten(1), pos)
        return small.flatten(1), x


class Text(nn.Module):
    def __init__(self, bert):
        super().__init__()
        self.bert = bert


class TransVG(nn.Module):
    def __init__(self, bert, text_tokens):
        super().__init__()
        patches = (SIZE // 32) ** 2
        self.visumodel, self.textmodel = DETR(decoder=False), Text(bert)
        self.vl_pos_embed = nn.Embedding(patches + text_tokens + 1, WIDTH)
        self.reg_token = nn.Embedding(1, WIDTH)
        self.visu_proj = nn.Linear(WIDTH, WIDTH)
        self.text_proj = nn.Linear(bert.config.hidden_size, WIDTH)
        self.vl_transformer = nn.Module()
        self.vl_transformer.encoder = Layers(EncoderLayer, 2)
        self.bbox_embed = MLP()

    def forward(self, images, mask, ids, text_mask):
        """Return (B, 4) boxes; ids, text_mask: (B, T) of the full text length, True on tokens."""
        small, seen = self.visumodel(images, mask)
        words = self.textmodel.bert(input_ids=ids, attention_mask=text_mask.long()).last_hidden_state
        start = self.reg_token.weight[:, None].repeat(1, len(ids), 1)
        x = torch.cat([start, self.text_proj(words).transpose(0, 1), self.visu_proj(seen)])
        hidden = torch.cat([torch.zeros(len(ids), 1, dtype=torch.bool), ~text_mask, small], dim=1)
        for layer in self.vl_transformer.encoder.layers:
            x = layer(x, hidden, self.vl_pos_embed.weight[:, None].repeat(1, len(ids), 1))
        return self.bbox_embed(x[0]).sigmoid()


class Resizer(nn.Module):
    def __init__(self, before):
        super().__init__()
        self.fc, self.layer_norm = nn.Linear(before, WIDTH), nn.LayerNorm(WIDTH, eps=1e-12)


class MDETR(Images):
    def __init__(self, roberta, queries):
        super().__init__()
        self.transformer = nn.Module()
        self.transformer.encoder = Layers(EncoderLayer, 2)
        self.transformer.decoder = Layers(DecoderLayer, 2, norm=True)
        self.transformer.text_encoder = roberta
        self.transformer.resizer = Resizer(roberta.config.hidden_size)
        self.query_embed, self.class_embed = nn.Embedding(queries, WIDTH), nn.Linear(WIDTH, 256)
        self.bbox_embed = MLP()
        self.contrastive_align_projection_image = nn.Linear(WIDTH, 64)
        self.contrastive_align_projection_text = nn.Linear(WIDTH, 64)

    def forward(self, images, mask, ids, text_mask):
        """Return (L, B, Q, ...) boxes, logits and query features of all decoder layers, (B, T, 64) tokens."""
        features, small, pos = self.features(images, mask)
        words = self.transformer.text_encoder(input_ids=ids, attention_mask=text_mask.long())
        resizer = self.transformer.resizer
        words = resizer.layer_norm(resizer.fc(words.last_hidden_state)).transpose(0, 1)
        x, pos = (each.flatten(2).permute(2, 0, 1) for each in (features, pos))
        x, pos = torch.cat([x, words]), torch.cat([pos, torch.zeros_like(words)])
        hidden = torch.cat([small.flatten(1), ~text_mask], dim=1)
        for layer in self.transformer.encoder.layers:
            x = layer(x, hidden, pos)
        start = self.query_embed.weight[:, None].repeat(1, len(ids), 1)
        y, states = torch.zeros_like(start), []
        for layer in self.transformer.decoder.layers:
            y = layer(y, start, x, hidden, pos)
            states.append(self.transformer.decoder.norm(y))
        found = torch.stack(states).transpose(1, 2)
        queries = functional.normalize(self.contrastive_align_projection_image(found), dim=-1)
        tokens = self.contrastive_align_projection_text(x[-len(words) :]).transpose(0, 1)
        boxes = self.bbox_embed(found).sigmoid()
        return boxes, self.class_embed(found), queries, functional.normalize(tokens, dim=-1)


def normalized(images, mask):
    """Return (B, 3, S, S) of (B, 1, S, S) images in [0, 1], with padding of the mean color."""
    mean, deviation = (torch.tensor(each).view(1, 3, 1, 1) for each in NORMAL)
    return ((images - mean) / deviation) * (~mask[:, None]).float()
