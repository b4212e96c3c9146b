"""Random draws of training as a pure function of (seed, step, sample, stream): the same on any device and for any
number of processes.

Called by `crops` (windows, flips, SNR) and `channel` (noise, fading). The generator is SplitMix64 (G. Steele, D. Lea,
C. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014): value number i of a key is mix(key + i *
GAMMA). It has no state, so a whole batch is drawn at once in 64-bit integer arithmetic, on the CPU and on a GPU to the
same bits.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

_GAMMA = 0x9E3779B97F4A7C15
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)

# Streams of one sample. Each is a key of its own, so that a longer draw of one never moves another.
WINDOW, NOISE, FADING = 1, 2, 3


def _signed(value: int) -> int:
    """The 64 bits of `value` as torch's int64 holds them."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical shift right; torch's own repeats the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def mix(z: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64 of any shape: every bit of the input decides every bit of the output."""
    z = (z ^ _shift(z, 30)) * _signed(_MIX[0])
    z = (z ^ _shift(z, 27)) * _signed(_MIX[1])
    return z ^ _shift(z, 31)


def step_seed(*parts) -> int:
    """A 63-bit seed from any printable parts: the first bytes of their sha256."""
    return int.from_bytes(hashlib.sha256("|".join(map(str, parts)).encode()).digest()[:8], "big") >> 1


def sample_keys(seed: int, samples: Tensor) -> Tensor:
    """One key per sample, int64 (B,), from the seed of a step and the samples' places in the whole batch, int64 (B,).

    The seed enters as a number, not as a tensor: a copy to a GPU would wait for all that the GPU still has to do.
    """
    return mix((samples + 1) * _signed(_GAMMA) + _signed(seed))


def words(keys: Tensor, index: Tensor) -> Tensor:
    """Values number `index`, int64 (n,), of each key, int64 (B,): 64 random bits each, int64 (B, n)."""
    return mix(keys[:, None] + (index + 1)[None, :] * _signed(_GAMMA))


def stream(keys: Tensor, number: int) -> Tensor:
    """The keys of one stream of each sample, int64 (B,): values before the first one, which no draw reaches."""
    return mix(keys + _signed(-number * _GAMMA))


def host_uniforms(seed: int, count: int) -> list[float]:
    """Uniform numbers for what a whole batch shares, made on the host: they decide shapes."""
    return uniforms(torch.tensor([_signed(seed)]), count)[0].tolist()


def uniforms(keys: Tensor, count: int) -> Tensor:
    """Uniform numbers from 0 to below 1, float64 (B, count)."""
    return _shift(words(keys, torch.arange(count, device=keys.device)), 11).double() * 2.0**-53


def complex_normals(keys: Tensor, count: int) -> Tensor:
    """Draws of CN(0, 1), complex64 (B, count), E|z|^2 = 1; a smaller count gives a prefix of a larger one.

    Box and Muller's transform of one word a draw: 32 bits for the magnitude, 32 for the phase. Bits are equal on all
    devices, logarithm and cosine are so to rounding.
    """
    bits = words(keys, torch.arange(count, device=keys.device))
    high, low = _shift(bits, 32), bits & 0xFFFFFFFF
    magnitude = (-torch.log((high.float() + 0.5) * 2.0**-32).clamp_max(0.0)).sqrt()
    return torch.polar(magnitude, low.float() * (2 * math.pi * 2.0**-32))
