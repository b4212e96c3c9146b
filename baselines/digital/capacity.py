"""Limits that no code can cross, on the complex AWGN channel with Es/N0 per complex use.

The table of schemes (`baselines.digital.mcs`) and the tests call it. Sources: Shannon 1948 for Gaussian inputs. For
equiprobable M-QAM, the mutual information of Ungerboeck 1982 (Eq. 5). For square QAM it splits into two independent PAM
dimensions, and Gauss-Hermite quadrature integrates it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

_NODES, _WEIGHTS = np.polynomial.hermite.hermgauss(64)


def shannon_bits(snr_db: float | np.ndarray) -> float | np.ndarray:
    """Capacity in bits per complex use, log2(1 + SNR), for SNRs in dB of any shape, such as (points,)."""
    return np.log2(1 + 10 ** (np.asarray(snr_db, dtype=np.float64) / 10))


def shannon_limit_db(bits_per_use: float) -> float:
    """The lowest Es/N0 in dB at which `bits_per_use` information bits per use can be sent reliably."""
    return float(10 * np.log10(2.0**bits_per_use - 1))


def qam_bits(order: int, snr_db: float) -> float:
    """Mutual information in bits per complex use of equiprobable square `order`-QAM (4, 16, 64, 256) at Es/N0 in dB."""
    levels = int(round(order**0.5))
    pam = np.arange(-levels + 1, levels, 2, dtype=np.float64)
    pam /= np.sqrt(2 * np.mean(pam**2))  # half of the unit symbol power on each dimension
    variance = 10 ** (-snr_db / 10) / 2
    noise = np.sqrt(2 * variance) * _NODES
    # log2 of the sum over all points of exp((noise^2 - (noise + a_i - a_j)^2) / 2 variance), averaged over the noise
    exponent = (noise**2 - (noise + pam[:, None, None] - pam[None, :, None]) ** 2) / (2 * variance)
    loss = np.log2(np.exp(exponent).sum(axis=1)) @ _WEIGHTS / np.sqrt(np.pi)
    return float(2 * (np.log2(levels) - loss.mean()))


def qam_limit_db(order: int, rate: float) -> float:
    """The lowest Es/N0 in dB at which `order`-QAM can carry code rate `rate` with the best code, found by bisection."""
    return _lowest_snr_db(lambda snr_db: qam_bits(order, snr_db), rate * np.log2(order), -20.0, 60.0)


def _lowest_snr_db(bits: Callable[[float], float], target: float, low: float, high: float) -> float:
    """The lowest SNR in dB between `low` and `high` at which bits(snr_db), which rises, reaches `target`."""
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if bits(middle) < target else (low, middle)
    return high


@cache
def _qam_curve(order: int) -> tuple[np.ndarray, np.ndarray]:
    """Es/N0 in dB, and the mutual information of `order`-QAM there: a grid so fine that values between may be read."""
    grid = np.arange(-60.0, 60.0, 0.25)
    return grid, np.array([qam_bits(order, float(snr_db)) for snr_db in grid])


def fading_qam_bits(order: int, snr_db: float) -> float:
    """Mutual information of `order`-QAM in bits per complex use, averaged over Rayleigh gains that the receiver knows.

    snr_db: mean Es/N0. Gauss-Laguerre quadrature integrates over the power of the gain, which is exponential.
    """
    powers, weights = np.polynomial.laguerre.laggauss(40)
    return float(weights @ np.interp(snr_db + 10 * np.log10(powers), *_qam_curve(order)))


def fading_qam_snr_db(order: int, snr_db: float) -> float:
    """The mean Es/N0 in dB at which `order`-QAM under Rayleigh fading has the mutual information that it has on AWGN at
    `snr_db` dB, found by bisection.
    """
    return _lowest_snr_db(lambda mean: fading_qam_bits(order, mean), qam_bits(order, snr_db), snr_db, snr_db + 30)
