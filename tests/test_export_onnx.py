"""The exported graph steps in onnxruntime like the reference, whatever the size."""

import json

import numpy as np
import pytest
import shaders
import torch

from nca_texture.errors import MissingError
from nca_texture.export import onnx as exporting
from nca_texture.export.onnx import OnnxExporter
from nca_texture.noise import fires, fires_each, sample_seeds

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


@pytest.mark.parametrize("case", shaders.CASES)
def test_onnx_steps_like_the_reference(case: str) -> None:
    trained = shaders.model(case)
    automaton = trained.automaton
    data = OnnxExporter().files([trained])[""]
    graph = onnx.load_from_string(data)
    assert {"RandomUniform", "RandomUniformLike", "Loop"}.isdisjoint(
        node.op_type for node in graph.graph.node
    )
    about = {entry.key: entry.value for entry in graph.metadata_props}
    assert json.loads(about["nca-texture"])["fire_limit"] == round(automaton.fire_rate * 2**24)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    for batch, height, width in ((2, *shaders.SIZE), (1, 6, 9)):
        seeds = sample_seeds(shaders.SEED, batch)
        state = automaton.seed(batch, (height, width), seed=seeds)
        found, rgba = state.numpy(), np.zeros(0)
        for step in range(4):
            limit = torch.tensor(round(automaton.fire_rate * 2**24), dtype=torch.int32)
            cells = torch.arange(height), torch.arange(width)
            if automaton.fire_by == "cell":
                mask = fires(seeds, step, *cells, limit)[:, None]
            else:
                mask = fires_each(seeds, step, automaton.channels, *cells, limit)
                mask = mask.permute(0, 3, 1, 2)
            given = {"state": found, "fires": mask.float().numpy()}
            found, rgba = session.run(["next_state", "rgba"], given)
        expected = automaton.grow(state, 4, seed=seeds, kernel="reference")
        assert (expected - state).abs().max() > 0.01
        torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-5, rtol=1e-4)
        cells = automaton.with_grid(type(automaton.grid)()).to_image(expected)
        np.testing.assert_allclose(rgba[:, : cells.shape[1]], cells.numpy(), atol=1e-4)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(exporting.importlib, "import_module", fail)
    with pytest.raises(MissingError, match=r'pip install "nca-texture\[onnx\]"'):
        OnnxExporter().files([shaders.model("texture")])
