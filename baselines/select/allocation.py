"""Who gets the channel uses: the strongest coefficients of the picture, with water-filled power.

Both ends know the variance of every coefficient (from the classes), the noise of the channel and the number of uses.
For Gaussian coefficients of deviation s, sent with amplitude a over noise of variance v and estimated by LMMSE, the
least squared error under a power constraint has a^2 s^2 = max(0, c s - v) (Lee and Petersen 1976). With t = v / c:

- a coefficient is worth sending where s > t, and sent with a^2 = v (1 / t - 1 / s) / s,
- the error that is left is t s,
- one more unit of power takes t^2 / v off the error,
- one more real symbol takes (s - t)^2 off it, where s is the strongest coefficient that did not get one.

Variances are integers, steps of 1 / STEPS octaves: which coefficients are chosen, and in which order, is the same on
every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

STEPS = 16  # of a level, in an octave of variance


def deviation(levels: np.ndarray) -> np.ndarray:
    """Standard deviation, float64, of coefficients whose variance is 2^(level / STEPS)."""
    return np.exp2(np.asarray(levels, dtype=np.float64) / (2 * STEPS))


def level(variance: np.ndarray, least: float = 2.0**-40) -> np.ndarray:
    """Inverse of `deviation`: variances -> int16 levels."""
    return np.round(STEPS * np.log2(np.maximum(variance, least))).astype(np.int16)


@dataclass(frozen=True)
class Prices:
    """What is worth what. water: t, a deviation; least: the deviation from which coefficients are sent; noise: variance
    v of each real symbol."""

    water: float
    least: float
    noise: float

    @property
    def symbol(self) -> float:
        """Squared error that one more real symbol takes off."""
        return (self.least - self.water) ** 2

    @property
    def use(self) -> float:
        """Squared error that one more complex use takes off: two real symbols and one unit of power."""
        return 2 * self.symbol + self.water**2 / self.noise


@dataclass(frozen=True)
class Allocation:
    """places: the coefficients sent, in order, as places in the flat array of levels, int64 (m,); amplitudes and
    deviations, float64 (m,); prices: at which it was made."""

    places: np.ndarray
    amplitudes: np.ndarray
    deviations: np.ndarray
    prices: Prices


def prices_of(counts: np.ndarray, lowest: int, uses: int, noise: float) -> Prices:
    """Prices for `uses` complex uses, from how many coefficients have each level: counts[i] of level lowest + i."""
    falling = np.arange(len(counts) - 1, -1, -1)
    number, s = counts[falling].astype(np.float64), deviation(lowest + falling)
    number = np.minimum(np.cumsum(number), 2 * uses) - np.minimum(np.cumsum(number) - number, 2 * uses)
    sent, total = np.cumsum(number), np.cumsum(number * s)
    water = noise * total / (uses + noise * sent)  # were all down to this level sent
    worth = (s > water) & (number > 0)
    last = int(np.flatnonzero(worth)[-1]) if worth.any() else 0
    full = sent[last] >= 2 * uses
    return Prices(float(water[last]), float(s[last] if full else water[last]), noise)


def allocate(levels: np.ndarray, uses: int, noise: float) -> Allocation:
    """The coefficients that `uses` complex uses carry. levels: int (coefficients,); noise: variance per real symbol."""
    lowest = int(levels.min())
    prices = prices_of(np.bincount(levels.astype(np.int64) - lowest), lowest, uses, noise)
    # stable: of equal variances the first in the picture
    order = np.argsort(-levels.astype(np.int16), kind="stable")[: 2 * uses]
    s = deviation(levels[order])
    worth = s > prices.water
    order, s = order[worth], s[worth]
    return Allocation(order, np.sqrt(noise * (1 / prices.water - 1 / s) / s), s, prices)


def cost_of_square(deviations: np.ndarray, prices: Prices) -> tuple[np.ndarray, np.ndarray]:
    """What a coefficient x costs in squared error, power and symbols: weight x^2 + fixed. Both in the shape of
    `deviations`.

    With t and the price k of a symbol, one that is sent costs t x^2 / s + t s - t^2 + k, one that is not costs x^2.
    """
    sent = deviations > prices.least - 1e-12
    weight = np.where(sent, prices.water / deviations, 1.0)
    return weight, np.where(sent, prices.water * (deviations - prices.water) + prices.symbol, 0.0)
