"""Files as other programs publish them, made from random weights."""

import base64
import io
import json
from typing import Any

import numpy as np
from PIL import Image


def random_layers(
    shapes: list[tuple[int, int]], models: int, seed: int = 0, amount: float = 0.2
) -> list[np.ndarray]:
    """Draw weights [models, rows, outputs] of layers whose last row is the bias."""
    source = np.random.default_rng(seed)
    return [source.normal(0, amount, (models, *shape)).astype(np.float32) for shape in shapes]


def png_url(pixels: np.ndarray) -> str:
    """Write ``pixels`` [H, W, 4] as a data URL."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return "data:image/PNG;base64," + base64.b64encode(file.getvalue()).decode()


def distill_layer(weights: np.ndarray, columns: int, zero: list[float]) -> dict[str, Any]:
    """Lay out ``weights`` [models, rows, outputs], byte = weight / scale * 255 + 127."""
    models, rows, outputs = weights.shape
    scale = 2 * float(np.abs(weights).max())
    lines = -(-models // columns)
    quarter = -(-outputs // 4)
    filled = np.zeros((columns * lines, rows, quarter * 4), np.float32)
    filled[:models, :, :outputs] = weights
    levels = np.clip(np.round(filled / scale * 255 + 127), 0, 255).astype(np.uint8)
    sheet = levels.reshape(lines, columns, rows, quarter, 4).transpose(0, 2, 1, 3, 4)
    return {
        "scale": scale,
        "data": png_url(sheet.reshape(lines * rows, columns * quarter, 4)),
        "shape": [rows, outputs],
        "quant_scale_zero": zero,
        "layout": [columns, lines],
    }


def distill(names: list[str], channels: int = 12, hidden: int = 8) -> dict[str, Any]:
    """Make a models.json."""
    first, last = random_layers([(4 * channels + 1, hidden), (hidden + 1, channels)], len(names))
    return {
        "model_names": names,
        "layers": [
            distill_layer(first, 2, [2.0, 0.0]),
            distill_layer(last, len(names), [4.0, 127 / 255]),
        ],
    }


def growing(channels: int = 6, hidden: int = 8) -> list[dict[str, Any]]:
    """Make a file of the growing demo."""
    source = np.random.default_rng(1)
    return [
        {
            "data_b64": base64.b64encode(source.bytes((rows + 1) * outputs)).decode(),
            "in_ch": rows,
            "out_ch": outputs,
            "weight_scale": 0.5,
            "bias_scale": 0.1,
            "type": "uint8",
        }
        for rows, outputs in ((3 * channels, hidden), (hidden, channels))
    ]


def munca_numbers() -> np.ndarray:
    """Draw the 68 numbers of a small muNCA: four matrices input by input, then the bias."""
    return np.random.default_rng(2).integers(-60, 60, 68)


def munca_glsl(numbers: np.ndarray) -> str:
    """Write 68 numbers as the notebook does."""
    matrices, bias = numbers[:64].reshape(4, 16), numbers[64:]
    texts = [f"mat4({','.join(map(str, each))})" for each in matrices]
    return (
        "vec4 rule(vec4 s, vec4 p) {\n"
        f"  return 1e-03*(vec4({','.join(map(str, bias))})+\n"
        f"    {texts[0]}*s+\n    {texts[1]}*p+\n"
        f"    {texts[2]}*abs(s)+\n    {texts[3]}*abs(p));\n}}\n"
    )


def as_text(data: Any) -> str:
    """Write JSON."""
    return json.dumps(data, ensure_ascii=False)
