"""The exported C header is compiled and stepped: it fires the cells of the reference."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import shaders
import torch

from nca_texture import Grid
from nca_texture.export.c import CExporter, identifier

MAIN = """
#include "model.h"
void start(float *s, int h, int w, unsigned seed) {{ {0}_start(s, h, w, seed); }}
void step(const float *s, float *n, float *k, int h, int w, unsigned step, unsigned seed) {{
  {0}_step(s, n, k, h, w, step, seed);
}}
void rgba(const float *s, int cell, int size, float *out) {{ {0}_rgba(s, cell, size, out); }}
"""


def pointer(values: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(values.ctypes.data)


@pytest.mark.parametrize("case", shaders.CASES)
def test_c_steps_like_the_reference(case: str, tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    trained = shaders.model(case)
    (tmp_path / "model.h").write_bytes(CExporter().files([trained])[""])
    (tmp_path / "main.c").write_text(MAIN.format(identifier(trained.name)))
    flags = ["-std=c99", "-O1", "-Wall", "-Werror", "-shared", "-fPIC"]
    command = [compiler, *flags, "-o", "model.so", "main.c", "-lm"]
    subprocess.run(command, cwd=tmp_path, check=True)
    library = ctypes.CDLL(str(tmp_path / "model.so"))
    height, width = shaders.SIZE
    channels = trained.automaton.channels
    state, after = (np.full((channels, height, width), 7, np.float32) for _ in range(2))
    scratch = np.zeros((height, width), np.float32)
    seed = ctypes.c_uint(shaders.SEED)
    library.start(pointer(state), height, width, seed)
    assert torch.equal(torch.from_numpy(state.copy())[None], shaders.start(trained))
    for step in range(shaders.STEPS):
        library.step(pointer(state), pointer(after), pointer(scratch), height, width, step, seed)
        state, after = after, state
    found = torch.from_numpy(state.copy())[None]
    torch.testing.assert_close(found, shaders.grown(trained), atol=2e-5, rtol=1e-4)
    colours = np.zeros(4, np.float32)
    library.rgba(pointer(state), 17, height * width, pointer(colours))
    picture = trained.automaton.with_grid(Grid()).to_image(found)  # a cell is a pixel
    expected = picture[0, :, 17 // width, 17 % width]
    torch.testing.assert_close(torch.from_numpy(colours[: len(expected)]), expected)


def test_names_in_c_are_plain() -> None:
    assert [identifier(name) for name in ("zebra-2", "3d", "ex1_🦋", "🦋")] == [
        "zebra_2", "nca_3d", "ex1", "model"
    ]  # fmt: skip
