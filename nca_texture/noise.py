"""Chance as a function: every random number of a rollout is a hash of (seed, step, y, x).

The hash is pcg4d of Jarzynski and Olano, "Hash Functions for GPU Rendering", JCGT 2020, in 32-bit
unsigned arithmetic, so that a shader, another kernel or another block of a larger picture draws
the same numbers. torch has no unsigned multiplication: int32 wraps to the same bits, and its
arithmetic right shifts are masked.
"""

import functools
import hashlib

import torch
from torch import Tensor

from nca_texture.devices import send

_MULTIPLIER = 1664525
_INCREMENT = 1013904223
_SAMPLE_STRIDE = 0x9E3779B9  # golden ratio: seeds of a batch's samples lie far apart

# Purposes of numbers that are not fire masks, which use the seed itself.
SEED_STATE = 1
TRAINING = 2
FILM = 3
FIRE_EACH = 4


def seed_number(seed: int | str) -> int:
    """Turn a number, or any text, into a seed of 32 bits; a number within 32 bits stays itself."""
    if isinstance(seed, str):
        return int.from_bytes(hashlib.blake2s(seed.encode(), digest_size=4).digest(), "little")
    return seed & 0xFFFFFFFF


def sample_seeds(seed: int | str | list[int], batch: int) -> list[int]:
    """Give each of ``batch`` samples its seed; the first sample's is ``seed`` itself."""
    if isinstance(seed, int | str):
        first = seed_number(seed)
        return [(first + i * _SAMPLE_STRIDE) & 0xFFFFFFFF for i in range(batch)]
    if len(seed) != batch:
        raise ValueError(f"got {len(seed)} seeds for a batch of {batch}; give one, or one a sample")
    return [seed_number(number) for number in seed]


@functools.lru_cache(maxsize=4096)  # models that are trained together ask for the same ones
def stream(seed: int, purpose: int, index: int = 0) -> int:
    """Derive the seed of another stream of numbers: pcg4d of (index, purpose, 0, seed), last."""
    words = [torch.tensor(signed(word), dtype=torch.int32) for word in (index, purpose, 0, seed)]
    return int(pcg4d(*words)[3].item()) & 0xFFFFFFFF


def pcg4d(x: Tensor, y: Tensor, z: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hash four int32 tensors that broadcast together to four int32 tensors of random bits."""
    x, y, z, w = (v * _MULTIPLIER + _INCREMENT for v in (x, y, z, w))
    x = x + y * w
    y = y + z * x
    z = z + x * y
    w = w + y * z
    x, y, z, w = (v ^ ((v >> 16) & 0xFFFF) for v in (x, y, z, w))
    x = x + y * w
    y = y + z * x
    z = z + x * y
    w = w + y * z
    return x, y, z, w


def cell_hash(seeds: list[int], step: int, rows: Tensor, columns: Tensor) -> tuple[Tensor, ...]:
    """Hash every cell: four int32 tensors [B, H, W] for ``rows`` [H] and ``columns`` [W]."""
    device = rows.device
    w = send(torch.tensor([signed(seed) for seed in seeds], dtype=torch.int32), device)
    z = torch.tensor(signed(step), dtype=torch.int32)  # a number, which no device waits for
    return pcg4d(columns.int(), rows.int()[:, None], z, w[:, None, None])


def fires(seeds: list[int], step: int, rows: Tensor, columns: Tensor, limit: Tensor) -> Tensor:
    """Decide which cells fire at ``step``: bool [B, H, W].

    ``limit`` is round(rate * 2**24) as int32, a scalar or a map [H, W].
    """
    return ((cell_hash(seeds, step, rows, columns)[0] >> 8) & 0xFFFFFF) < limit


def fires_each(
    seeds: list[int], step: int, channels: int, rows: Tensor, columns: Tensor, limit: Tensor
) -> Tensor:
    """Decide which elements fire at ``step``: bool [B, H, W, channels]; ``limit`` as in ``fires``.

    One hash decides for four channels.
    """
    masks: list[Tensor] = []
    for group in range(-(-channels // 4)):
        seeds_here = [stream(seed, FIRE_EACH, group) for seed in seeds]
        bits = cell_hash(seeds_here, step, rows, columns)
        masks += [((b >> 8) & 0xFFFFFF) < limit for b in bits]
    return torch.stack(masks[:channels], dim=-1)


def uniform(seeds: list[int], purpose: int, channels: int, rows: Tensor, columns: Tensor) -> Tensor:
    """Draw float32 numbers in [0, 1) for every cell and channel: [B, channels, H, W]."""
    planes: list[Tensor] = []
    for group in range(-(-channels // 4)):
        seeds_here = [stream(seed, purpose, group) for seed in seeds]
        bits = cell_hash(seeds_here, 0, rows, columns)
        planes += [((b >> 8) & 0xFFFFFF).float() / 2**24 for b in bits]
    return torch.stack(planes[:channels], dim=1)


def generator(seed: int, iteration: int, purpose: int = TRAINING) -> torch.Generator:
    """Return the CPU generator of one training iteration: a function of (run seed, iteration)."""
    return torch.Generator().manual_seed(
        stream(seed, purpose, 2 * iteration) << 32 | stream(seed, purpose, 2 * iteration + 1)
    )


def signed(word: int) -> int:
    """Reinterpret 32 unsigned bits as the int32 that torch wants."""
    word &= 0xFFFFFFFF
    return word - 2**32 if word >= 2**31 else word
