"""Random draws of training that depend only on (seed, step, sample, stream), not on the device or the number of
processes.

`crops` (windows, flips, SNR) and `channel` (noise, fading) call it. The generator is SplitMix64 (G. Steele, D. Lea, C.
Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014): value number i of a key is mix(key + i * GAMMA).
It has no state, so a whole batch is drawn at once in 64-bit integer arithmetic. The bits are the same on the CPU and on
a GPU.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

_GAMMA = 0x9E3779B97F4A7C15
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)

# Streams of one sample. Each has its own key, so a longer draw of one stream does not change another.
WINDOW, NOISE, FADING = 1, 2, 3


def _signed(value: int) -> int:
    """The 64 bits of `value` as a signed integer, as torch's int64 needs it."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical right shift. torch's own shift repeats the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def mix(z: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64 of any shape, such as (B, n): every input bit influences every output bit."""
    z = (z ^ _shift(z, 30)) * _signed(_MIX[0])
    z = (z ^ _shift(z, 27)) * _signed(_MIX[1])
    return z ^ _shift(z, 31)


def step_seed(*parts) -> int:
    """A 63-bit seed from any printable parts: the first bytes of their sha256."""
    return int.from_bytes(hashlib.sha256("|".join(map(str, parts)).encode()).digest()[:8], "big") >> 1


def sample_keys(seed: int, samples: Tensor) -> Tensor:
    """One key per sample, int64 (B,), from the seed of a step and the samples' positions in the whole batch, int64
    (B,).

    The seed is a Python number, not a tensor, because copying it to a GPU would wait for all work that the GPU still
    has.
    """
    return mix((samples + 1) * _signed(_GAMMA) + _signed(seed))


def words(keys: Tensor, index: Tensor) -> Tensor:
    """Values number `index`, int64 (n,), of each key, int64 (B,): 64 random bits each, int64 (B, n)."""
    return mix(keys[:, None] + (index + 1)[None, :] * _signed(_GAMMA))


def stream(keys: Tensor, number: int) -> Tensor:
    """The keys of one stream of each sample, int64 (B,). They are values before the first one, which no draw uses."""
    return mix(keys + _signed(-number * _GAMMA))


def host_uniforms(seed: int, count: int) -> list[float]:
    """Uniform numbers that a whole batch shares. They are computed on the host, because they decide shapes."""
    return uniforms(torch.tensor([_signed(seed)]), count)[0].tolist()


def uniforms(keys: Tensor, count: int) -> Tensor:
    """Uniform numbers from 0 to below 1, float64 (B, count)."""
    return _shift(words(keys, torch.arange(count, device=keys.device)), 11).double() * 2.0**-53


def complex_normals(keys: Tensor, count: int) -> Tensor:
    """Draws of CN(0, 1), complex64 (B, count), E|z|^2 = 1. A smaller count gives the first part of a larger one.

    The transform of Box and Muller, with one word per draw: 32 bits for the magnitude, 32 for the phase. The bits are
    the same on all devices. Logarithm and cosine agree up to rounding.
    """
    bits = words(keys, torch.arange(count, device=keys.device))
    high, low = _shift(bits, 32), bits & 0xFFFFFFFF
    magnitude = (-torch.log((high.float() + 0.5) * 2.0**-32).clamp_max(0.0)).sqrt()
    return torch.polar(magnitude, low.float() * (2 * math.pi * 2.0**-32))
