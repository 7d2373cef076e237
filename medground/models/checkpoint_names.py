"""The names of tensors in published checkpoints, and their names here.

Sources: models/ of facebookresearch/detr, djiajunustc/TransVG, eraserNut/MedRPG and ashkamath/mdetr, and
torchvision's ResNet. In a new name, @n stands for n - 1 and #n for 2 n.
"""

Rules = tuple[tuple[str, str], ...]

KINDS = {
    "detr": "DETR: ResNet and encoder",
    "transvg": "TransVG",
    "medrpg": "MedRPG: a TransVG",
    "mdetr": "MDETR",
    "agp": "AGP: a TransVG or an MDETR",
}


def _backbone(prefix: str) -> Rules:
    """Return the rules of torchvision's ResNet under a prefix."""
    body, here = rf"{prefix}backbone\.0\.body\.", "image_encoder."
    layer = rf"{body}layer(\d+)\.(\d+)\."
    stage = rf"{here}encoder.stages.@\1.layers.\2."
    return (
        (rf"{body}conv1\.weight", f"{here}embedder.embedder.convolution.weight"),
        (rf"{body}bn1\.(\w+)", rf"{here}embedder.embedder.normalization.\1"),
        (rf"{layer}conv(\d)\.weight", rf"{stage}layer.@\3.convolution.weight"),
        (rf"{layer}bn(\d)\.(\w+)", rf"{stage}layer.@\3.normalization.\4"),
        (rf"{layer}downsample\.0\.weight", rf"{stage}shortcut.convolution.weight"),
        (rf"{layer}downsample\.1\.(\w+)", rf"{stage}shortcut.normalization.\3"),
        (rf"{prefix}input_proj\.(\w+)", r"to_patches.\1"),
    )


_BOX: Rules = ((r"bbox_embed\.layers\.(\d)\.(\w+)", r"box.#\1.\2"),)
_TRANSVG: Rules = (
    *_backbone(r"visumodel\."),
    (r"visumodel\.transformer\.encoder\.(layers\..+)", r"visual.\1"),
    (r"textmodel\.bert\.(.+)", r"text_encoder.\1"),
    (r"visu_proj\.(\w+)", r"to_joint.\1"),
    (r"text_proj\.(\w+)", r"to_tokens.\1"),
    (r"reg_token\.weight", "reg"),
    (r"vl_pos_embed\.weight", "table.weight"),
    (r"vl_transformer\.encoder\.(layers\..+)", r"fusion.\1"),
    *_BOX,
)
_DECODER = r"transformer\.decoder\.layers\.(\d+)\."
RULES: dict[str, Rules] = {
    "detr": (*_backbone(""), (r"transformer\.encoder\.(layers\..+)", r"visual.\1")),
    "transvg": _TRANSVG,
    "medrpg": _TRANSVG,
    "mdetr": (
        *_backbone(""),
        (r"transformer\.encoder\.(layers\..+)", r"fusion.\1"),
        (rf"{_DECODER}cross_attn_image\.(.+)", r"decoder.layers.\1.multihead_attn.\2"),
        (rf"{_DECODER}norm1\.(.+)", r"decoder.layers.\1.norm1.\2"),
        (rf"{_DECODER}norm([34])\.(.+)", r"decoder.layers.\1.norm@\2.\3"),
        (rf"{_DECODER}(self_attn|linear1|linear2)\.(.+)", r"decoder.layers.\1.\2.\3"),
        (r"transformer\.decoder\.norm\.(\w+)", r"decoder.norm.\1"),
        (r"transformer\.text_encoder\.(.+)", r"text_encoder.\1"),
        (r"transformer\.resizer\.(.+)", r"to_tokens.\1"),
        (r"query_embed\.weight", "queries"),
        (r"class_embed\.(\w+)", r"words.\1"),
        (r"contrastive_align_projection_image\.(\w+)", r"align_queries.\1"),
        (r"contrastive_align_projection_text\.(\w+)", r"align_tokens.\1"),
        *_BOX,
    ),
}
"""For each kind: a pattern of a whole name in the checkpoint, and the name here."""

_COUNTERS = (r"(?:.*\.)?total_(?:ops|params)", "counter of a profiler")
_IDS = (r".*embeddings\.(?:position|token_type)_ids", "a constant")
_TEXT: Rules = (_COUNTERS, _IDS)
LEFT_OUT: dict[str, Rules] = {
    "detr": (
        _COUNTERS,
        (r"transformer\.decoder\..+", "decoder of object queries"),
        (r"query_embed\.weight", "object queries"),
        (r"class_embed\.\w+", "classes of objects"),
        (r"bbox_embed\..+", "boxes of object queries"),
    ),
    "transvg": _TEXT,
    "medrpg": _TEXT,
    "mdetr": (
        *_TEXT,
        (r"transformer\.CLS\.weight|contrastive_projection_(?:image|text)\.\w+", "image-text contrast"),
        (r"(?:qa_embed|answer_\w+)\..+", "answers to questions"),
        (r"isfinal_embed\..+", "referred objects of CLEVR-Ref+"),
    ),
}
"""For each kind: a pattern of a whole name, and why such tensors are left out."""
