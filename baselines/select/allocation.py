"""Gives the channel uses to coefficients: to the strongest ones of the picture, with water-filled power.

`baselines.linear_select` calls it at both ends. Both ends know the variance of every coefficient (from the classes),
the noise of the channel and the number of uses. Take Gaussian coefficients of standard deviation s, sent with amplitude
a over noise of variance v and estimated by LMMSE. Under a power constraint, the squared error is least for a^2 s^2 =
max(0, c s - v) (Lee and Petersen 1976). With t = v / c:

- A coefficient is sent if s > t. Its amplitude is given by a^2 = v (1 / t - 1 / s) / s.
- The remaining error is t s.
- One more unit of power reduces the error by t^2 / v.
- One more real symbol reduces it by (s - t)^2, where s is the strongest coefficient that has no symbol yet.

Variances are integers, in steps of 1 / STEPS octaves. So the choice of coefficients and their order are the same on
every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

STEPS = 16  # levels per octave of variance


def deviation(levels: np.ndarray) -> np.ndarray:
    """Standard deviation, float64, of coefficients whose variance is 2^(level / STEPS). Any
    shape, such as (m,), stays.
    """
    return np.exp2(np.asarray(levels, dtype=np.float64) / (2 * STEPS))


def level(variance: np.ndarray, least: float = 2.0**-40) -> np.ndarray:
    """Variances -> int16 levels, as `deviation` reads them. Any shape, such as (m,), stays. Variances below `least`
    count as `least`.
    """
    return np.round(STEPS * np.log2(np.maximum(variance, least))).astype(np.int16)


@dataclass(frozen=True)
class Prices:
    """How much squared error a resource saves.

    water: t, a standard deviation.
    least: coefficients with at least this standard deviation are sent.
    noise: variance v of each real symbol.
    """

    water: float
    least: float
    noise: float

    @property
    def symbol(self) -> float:
        """Squared error that one more real symbol saves."""
        return (self.least - self.water) ** 2

    @property
    def use(self) -> float:
        """Squared error that one more complex use saves: two real symbols and one unit of power."""
        return 2 * self.symbol + self.water**2 / self.noise


@dataclass(frozen=True)
class Allocation:
    """The coefficients that are sent.

    places: their positions in the flat array of levels, in the order of sending, int64 (m,).
    amplitudes, deviations: float64 (m,).
    prices: the prices of this allocation.
    """

    places: np.ndarray
    amplitudes: np.ndarray
    deviations: np.ndarray
    prices: Prices


def prices_of(counts: np.ndarray, lowest: int, uses: int, noise: float) -> Prices:
    """Prices for `uses` complex uses.

    counts: (levels,), the number of coefficients with each level; counts[i] is that of level lowest + i.
    noise: variance per real symbol.
    """
    falling = np.arange(len(counts) - 1, -1, -1)
    number, s = counts[falling].astype(np.float64), deviation(lowest + falling)
    number = np.minimum(np.cumsum(number), 2 * uses) - np.minimum(np.cumsum(number) - number, 2 * uses)
    sent, total = np.cumsum(number), np.cumsum(number * s)
    water = noise * total / (uses + noise * sent)  # if all coefficients down to this level were sent
    worth = (s > water) & (number > 0)
    last = int(np.flatnonzero(worth)[-1]) if worth.any() else 0
    full = sent[last] >= 2 * uses
    return Prices(float(water[last]), float(s[last] if full else water[last]), noise)


def allocate(levels: np.ndarray, uses: int, noise: float) -> Allocation:
    """The coefficients that `uses` complex uses carry.

    levels: int (m,), of all coefficients.
    noise: variance per real symbol.
    """
    lowest = int(levels.min())
    prices = prices_of(np.bincount(levels.astype(np.int64) - lowest), lowest, uses, noise)
    # a stable sort: of equal variances, the first in the picture comes first
    order = np.argsort(-levels.astype(np.int16), kind="stable")[: 2 * uses]
    s = deviation(levels[order])
    worth = s > prices.water
    order, s = order[worth], s[worth]
    return Allocation(order, np.sqrt(noise * (1 / prices.water - 1 / s) / s), s, prices)


def cost_of_square(deviations: np.ndarray, prices: Prices) -> tuple[np.ndarray, np.ndarray]:
    """The cost of a coefficient x, in squared error, power and symbols, is weight x^2 + fixed.

    Returns weight and fixed, both in the shape of `deviations`, such as (classes, coefficients). Let k be the price of
    a symbol. A coefficient that is sent costs t x^2 / s + t s - t^2 + k. One that is not sent costs x^2.
    """
    sent = deviations > prices.least - 1e-12
    weight = np.where(sent, prices.water / deviations, 1.0)
    return weight, np.where(sent, prices.water * (deviations - prices.water) + prices.symbol, 0.0)
