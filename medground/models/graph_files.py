"""The XML of exported graphs, checked before OpenVINO parses it.

Only text as OpenVINO writes it is accepted, character by character where it matters: so no other parser can
read another graph in it. There are no entities, documents from elsewhere, other encodings, and no operations
but those of `OPERATIONS` in a numbered operation set. Operations with a state, loops, random numbers, texts
and extensions are not among them. OpenVINO itself checks sizes, shapes and the places of weights.
"""

import re
from collections import Counter
from pathlib import Path

from medground import limits
from medground.errors import MedgroundError

# Those of the exports of all architectures over encoders of transformers, and their neighbors.
OPERATIONS = frozenset(
    [
        "Const",
        "Parameter",
        "Result",
        "Abs",
        "Ceiling",
        "Clamp",
        "Cos",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "HSigmoid",
        "HSwish",
        "HardSigmoid",
        "Log",
        "Mish",
        "Negative",
        "PReLU",
        "ReLU",
        "Round",
        "Selu",
        "Sigmoid",
        "Sign",
        "Sin",
        "SoftPlus",
        "SoftSign",
        "Sqrt",
        "Swish",
        "Tanh",
        "Add",
        "Divide",
        "FloorMod",
        "Maximum",
        "Minimum",
        "Mod",
        "Multiply",
        "Power",
        "SquaredDifference",
        "Subtract",
        "Equal",
        "Greater",
        "GreaterEqual",
        "Less",
        "LessEqual",
        "NotEqual",
        "BitwiseAnd",
        "BitwiseNot",
        "BitwiseOr",
        "BitwiseXor",
        "LogicalAnd",
        "LogicalNot",
        "LogicalOr",
        "LogicalXor",
        "Select",
        "AdaptiveAvgPool",
        "AdaptiveMaxPool",
        "AvgPool",
        "BatchNormInference",
        "Convolution",
        "ConvolutionBackpropData",
        "GroupConvolution",
        "GroupConvolutionBackpropData",
        "GroupNormalization",
        "Interpolate",
        "MVN",
        "MaxPool",
        "NormalizeL2",
        "CumSum",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogicalAnd",
        "ReduceLogicalOr",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "Einsum",
        "LogSoftmax",
        "MatMul",
        "ScaledDotProductAttention",
        "SoftMax",
        "TopK",
        "Broadcast",
        "Concat",
        "Convert",
        "ConvertLike",
        "ConvertPromoteTypes",
        "DepthToSpace",
        "Eye",
        "Gather",
        "GatherElements",
        "GatherND",
        "NonZero",
        "OneHot",
        "Pad",
        "Range",
        "Reshape",
        "Roll",
        "ScatterElementsUpdate",
        "ScatterNDUpdate",
        "ScatterUpdate",
        "ShapeOf",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "StridedSlice",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "VariadicSplit",
    ]
)
PROLOG = b'<?xml version="1.0"?>\n'
TAGS = frozenset(b"net layers layer data input output port dim edges edge rt_info info".split())
_TAG = re.compile(rb"<(\w*)")
_LAYER = re.compile(
    rb'<layer id="\d+" name="[^"<>]*" type="(\w+)" version="opset\d+"(?: output_names="[^"<>]*")?>'
)
_CONTROL = bytes([*range(9), *range(11, 32), 127])
AGAIN = "run medground export again"


def read(path: Path) -> bytes:
    """Return the content of the file of a graph.

    Raises MedgroundError unless it is one as OpenVINO writes it, of known operations only.
    """
    with path.open("rb") as stream:
        content = limits.whole(stream, path, limits.MAX_LINE)
    if (
        not content.startswith(PROLOG)
        or len(content.translate(None, _CONTROL)) < len(content)
        or b"&#" in content
        or not _has_known_tags(content)
    ):
        raise MedgroundError(f"{path}: not a graph as medground export writes it; {AGAIN}")
    layers = _LAYER.findall(content)
    if len(layers) < content.count(b"<layer "):
        raise MedgroundError(f"{path}: a layer of no numbered operation set; {AGAIN}")
    if unknown := sorted({kind.decode() for kind in layers} - OPERATIONS):
        raise MedgroundError(f"{path}: the operation {unknown[0]} is not one that medground runs; {AGAIN}")
    return content


def _has_known_tags(content: bytes) -> bool:
    """Return whether each "<" begins or ends one of `TAGS`."""
    tags = Counter(_TAG.findall(content, len(PROLOG)))
    return tags.pop(b"", 0) == content.count(b"</") and tags.keys() <= TAGS
