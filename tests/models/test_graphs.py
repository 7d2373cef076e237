"""Files of graphs, and the weights that they share with a file of a model."""

import numpy as np
import pytest

from medground import shipped
from medground.model_dir import ModelDir
from medground.models import graphs

FILES = (shipped.GROUNDER / "image.xml", shipped.GROUNDER / "phrases.xml", shipped.VIEW)


@pytest.mark.parametrize("path", FILES, ids=lambda each: each.parent.name + each.stem)
def test_a_graph_gets_the_bytes_of_each_of_its_constants(path):
    weights = ModelDir(shipped.GROUNDER).weights
    source = graphs.read(path, weights)
    both = weights.read_bytes() + path.with_suffix(".bin").read_bytes()
    places = [(int(first), int(size)) for first, size in graphs.CONSTANT.findall(source.content)]
    assert len(source.weights) == len(both) and len(places) > 50
    for first, size in places:
        assert source.weights[first : first + size].tobytes() == both[first : first + size]


def test_parts_of_the_shared_file_that_a_graph_does_not_use_are_not_read(tmp_path):
    (tmp_path / "graph.bin").write_bytes(b"own")
    (tmp_path / "shared").write_bytes(bytes([7]) * 10_000_000)
    content = b'offset="5000000" size="10" offset="100" size="50" offset="10000000" size="3"'
    found = graphs._weights(content, tmp_path / "shared", tmp_path / "graph.bin")
    assert found[100:150].tolist() == [7] * 50 and found[5_000_000:5_000_010].tolist() == [7] * 10
    assert found[10_000_000:].tobytes() == b"own"
    assert np.count_nonzero(found) < 1000


def test_places_beyond_the_shared_file_are_left_to_openvino(tmp_path):
    (tmp_path / "graph.bin").write_bytes(b"own")
    (tmp_path / "shared").write_bytes(b"weights")
    content = b'offset="3" size="99999999999999999999" offset="99999999999999999999" size="1"'
    assert graphs._weights(content, tmp_path / "shared", tmp_path / "graph.bin").tobytes() == b"weightsown"


def test_a_version_of_openvino_without_a_property_compiles_all_the_same():
    class Core:
        def compile_model(self, model, device, how):
            if "SNIPPETS_MODE" in how:
                raise RuntimeError("not supported")
            return how

    assert graphs._compiled(Core(), "graph", {"PERFORMANCE_HINT": "LATENCY"}, 224) == {
        "PERFORMANCE_HINT": "LATENCY"
    }


def test_graphs_of_larger_squares_get_fused_kernels():
    class Core:
        def compile_model(self, model, device, how):
            return sorted(how)

    assert graphs._compiled(Core(), "graph", {}, 640) == []
    assert graphs._compiled(Core(), "graph", {}, 384) == ["SNIPPETS_MODE"]
