"""The front end of `linear-select` for training: a whole batch on one device, each picture at its own SNR.

The learned systems on this front end call it (`baselines.select.learned`). Allocation, estimates and transform are
those of `linear-select`, and the symbols are differentiable in what a network adds. Two things are simpler, because
training needs no bits. A class map is not coded: the tables of the codebook give the price of its bits, so that it
takes about as many bits as it may. And the SNR of the plan is rounded to a quarter of a decibel. Everything is computed
on the device, and nothing is copied back, so that a GPU can record and replay a step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from baselines.select import lapped
from baselines.select.allocation import STEPS
from baselines.select.class_map import UNIT
from baselines.select.codebook import DETAILS, Codebook
from baselines.select.lapped import SIZE, Coefficients

LEAST_DB, MOST_DB, STEP_DB = -10.0, 40.0, 0.25  # SNRs whose plans are tabulated
ROUNDS = 7  # prices of a bit that are tried, within 8 octaves

#: SNR in dB -> complex uses for symbols, bits of the class map, bits per use of the control channel.
Rule = Callable[[float], tuple[int, int, float]]


@dataclass
class BatchPlan:
    """How a batch of b pictures with n blocks each is sent. Both ends know it.

    classes: int64 (b, rows, columns).
    deviations: of all coefficients, (b, m), m = 768 n, in the order of `Codebook.all_levels`.
    places: positions of the sent coefficients, the strongest first, int64 (b, k).
    amplitudes: of the sent coefficients, (b, k); zero for those that are too weak.
    snr_db: (b,).
    """

    classes: Tensor
    deviations: Tensor
    places: Tensor
    amplitudes: Tensor
    snr_db: Tensor


@dataclass
class Estimates:
    """The receiver's estimates of a batch.

    coefficients: (b, m).
    errors: variances of their errors, (b, m).
    deviations, classes: as in `BatchPlan`.
    """

    coefficients: Tensor
    errors: Tensor
    deviations: Tensor
    classes: Tensor


class BatchFront:
    """A codebook on a device. Tensors are float32 unless said otherwise."""

    def __init__(self, codebook: Codebook, plain_class: int, device: torch.device):
        tables = codebook.tables
        self.codebook, self.plain_class, self.device = codebook, plain_class, device
        self.classes = codebook.classes
        self.levels = torch.from_numpy(codebook.levels.astype(np.float32)).to(device)
        self.order = torch.from_numpy(codebook.order).to(device)
        self.back = self.order.argsort()
        self.rotations = torch.from_numpy(codebook.rotations).to(device)
        bits = (tables.left[:, None, :].astype(np.int64) + tables.above[None] - tables.share) / UNIT
        bits = np.clip(bits, 0, 20)
        bits = bits + np.log2(np.exp2(-bits).sum(axis=2, keepdims=True))  # of probabilities with sum 1
        self.bits = torch.from_numpy(bits.astype(np.float32)).to(device)  # (left, above, class)
        self._places: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
        self._plans: dict[tuple, tuple[Tensor, Tensor, Tensor]] = {}
        self._mean_levels: dict[tuple[int, int], Tensor] = {}

    # --- both ends ----------------------------------------------------------------------------------------------------

    def plan(self, key: tuple, rule: Rule, snr_db: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Uses, bits of the map, and bits per use of the control channel, (b,) each. `rule` gives them; its results are
        kept under `key`.
        """
        if key not in self._plans:
            rows = [rule(float(snr)) for snr in np.arange(LEAST_DB, MOST_DB + STEP_DB / 2, STEP_DB)]
            self._plans[key] = tuple(
                torch.tensor(column, dtype=torch.float32).to(self.device) for column in zip(*rows, strict=True)
            )  # type: ignore[assignment]
        place = ((snr_db - LEAST_DB) / STEP_DB).round().clamp(0, len(self._plans[key][0]) - 1).long()
        uses, bits, rate = (table[place] for table in self._plans[key])
        return uses, bits, rate

    def means_deviations(self, rows: int, columns: int) -> Tensor:
        """Standard deviations of the transformed means, (m,) with m = 3 rows columns."""
        if (rows, columns) not in self._mean_levels:
            levels = self.codebook.levels_of_means(rows, columns).astype(np.float32).ravel()
            self._mean_levels[rows, columns] = _deviation(torch.from_numpy(levels).to(self.device))
        return self._mean_levels[rows, columns]

    def deviations(self, classes: Tensor) -> Tensor:
        """Of all coefficients, (b, m), from classes int64 (b, rows, columns)."""
        means = self.means_deviations(*classes.shape[1:]).expand(len(classes), -1)
        return torch.cat([means, _deviation(self.levels[classes.flatten(1)]).flatten(1)], dim=1)

    def allocate(self, deviations: Tensor, uses: Tensor, noise: Tensor, most: int):
        """As `allocation.allocate`, for b pictures at once. uses, noise: (b,).

        Returns the places of the `most` strongest coefficients, int64 (b, most), their amplitudes, and the prices
        (water, least), (b, 1) each.
        """
        s, places = deviations.sort(dim=1, descending=True, stable=True)
        s, places = s[:, :most], places[:, :most]
        uses, noise = uses[:, None], noise[:, None]
        count = torch.arange(1, most + 1, device=s.device)
        water = noise * s.cumsum(dim=1) / (uses + noise * count)  # if all coefficients down to this one were sent
        room = count <= 2 * uses
        sent = (s > water) & room
        last = sent.sum(dim=1, keepdim=True).clamp_min(1) - 1
        water, weakest = water.gather(1, last), s.gather(1, last)
        full = last + 1 >= torch.minimum(2 * uses, torch.full_like(uses, most))
        squared = noise * (1 / water - 1 / s) / s
        amplitudes = torch.where((s > water) & room, squared, 0.0).clamp_min(0).sqrt()
        return places, amplitudes, water, torch.where(full, weakest, water)

    # --- transmitter --------------------------------------------------------------------------------------------------

    def analyse(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (b, 3, 16 rows, 16 columns) -> transformed means (b, 3 n), and details in the codebook's order
        (b, rows, columns, 765).
        """
        with torch.autocast(images.device.type, enabled=False):
            found = lapped.analyse(images.float())
        return found.means.flatten(1), found.details[..., self.order]

    def choose(self, details: Tensor, uses: Tensor, bits: Tensor, rate: Tensor, noise: Tensor, most: int) -> Tensor:
        """Classes int64 (b, rows, columns) of least cost whose map takes about `bits` bits.

        Where there is no room for a map, all blocks have the plain class.
        """
        batch, rows, columns, _ = details.shape
        plain = torch.full((batch, rows, columns), self.plain_class, device=details.device)
        room = (bits - 1).clamp_min(0)
        classes = plain
        for _ in range(2):  # prices, then classes, as in `LinearSelect.choose`
            *_, water, least = self.allocate(self.deviations(classes), uses, noise, most)
            costs = self._costs(details, water, least)
            use = 2 * (least - water) ** 2 + water**2 / noise[:, None]  # squared error that one more use saves
            low, high = (use / rate[:, None]).log2() - 2, (use / rate[:, None]).log2() + 6
            for _ in range(ROUNDS):
                price = (low + high) / 2
                fits = (self.map_bits(self._cheapest(costs, price)) <= room)[:, None]
                low, high = torch.where(fits, low, price), torch.where(fits, price, high)
            classes = self._cheapest(costs, high)
        return torch.where((room > 0)[:, None, None], classes, plain)

    def _cheapest(self, costs: Tensor, price: Tensor) -> Tensor:
        """Classes int64 (b, rows, columns) of least cost if a bit costs 2^`price`, (b, 1). costs: (b, rows, columns,
        classes).

        Each block sees the classes of its left and upper neighbours, as in `class_map.choose`. The blocks of one
        diagonal do not see each other, so they are chosen at once.
        """
        batch, rows, columns, _ = costs.shape
        price = price.exp2()[:, :, None]
        found = torch.full((batch, rows + 1, columns + 1), self.classes, device=costs.device)
        for y, x in self._diagonals(rows, columns):
            own = self.bits[found[:, y + 1, x], found[:, y, x + 1]]
            found[:, y + 1, x + 1] = (costs[:, y, x] + price * own).argmin(dim=2)
        return found[:, 1:, 1:]

    def _diagonals(self, rows: int, columns: int) -> list[tuple[Tensor, Tensor]]:
        """Rows and columns, (n,) each, of the blocks of each diagonal from the upper right to the lower left."""
        if (rows, columns) not in self._places:
            found = []
            for index in range(rows + columns - 1):
                y = torch.arange(max(0, index - columns + 1), min(rows, index + 1))
                found.append((y.to(self.device), (index - y).to(self.device)))
            self._places[rows, columns] = found
        return self._places[rows, columns]

    def map_bits(self, classes: Tensor) -> Tensor:
        """Bits of a map by the tables of the codebook, (b,)."""
        own = self.bits[self._beside(classes, 2), self._beside(classes, 1), classes]
        return own.sum(dim=(1, 2))

    def _beside(self, classes: Tensor, axis: int) -> Tensor:
        """The class before each block along an axis; `self.classes` at the border."""
        edge = torch.full_like(classes.narrow(axis, 0, 1), self.classes)
        return torch.cat([edge, classes.narrow(axis, 0, classes.shape[axis] - 1)], dim=axis)

    def _costs(self, details: Tensor, water: Tensor, least: Tensor) -> Tensor:
        """As `Codebook.costs`, (b, rows, columns, classes); water, least: (b, 1)."""
        s, water, least = _deviation(self.levels), water[..., None], least[..., None]
        sent = s > least * (1 - 1e-6)
        weight = torch.where(sent, water / s, 1.0)  # (b, classes, 765)
        fixed = torch.where(sent, water * (s - water) + (least - water) ** 2, 0.0).sum(dim=2)
        r = self.rotations.shape[1]
        turned = torch.einsum("byxr,krs->byxks", details[..., :r], self.rotations)
        found = torch.einsum("byxd,bkd->byxk", details[..., r:].square(), weight[..., r:])
        found = found + torch.einsum("byxks,bks->byxk", turned.square(), weight[..., :r])
        return found + fixed[:, None, None]

    def prepare(
        self, images: Tensor, key: tuple, rule: Rule, snr_db: Tensor, allowed: int
    ) -> tuple[Tensor, BatchPlan, Tensor]:
        """All coefficients (b, m), how they are sent, and the number of uses (b,).

        allowed: complex uses per picture, side information included. snr_db: (b,).
        """
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            means, details = self.analyse(images)
            uses, bits, rate = self.plan(key, rule, snr_db)
            most = min(2 * allowed, means.shape[1] + details[0].numel())
            noise = 10 ** (-snr_db / 10) / 2
            classes = self.choose(details, uses, bits, rate, noise, most)
            deviations = self.deviations(classes)
            places, amplitudes, *_ = self.allocate(deviations, uses, noise, most)
            r = self.rotations.shape[1]
            turned = torch.einsum("byxr,byxrs->byxs", details[..., :r], self.rotations[classes])
            values = torch.cat([means, torch.cat([turned, details[..., r:]], dim=3).flatten(1)], dim=1)
            return values, BatchPlan(classes, deviations, places, amplitudes, snr_db), uses

    def modulate(self, values: Tensor, sent: BatchPlan, uses: Tensor) -> tuple[Tensor, Tensor]:
        """Symbols complex64 (b, k / 2), and their power before normalisation (b,).

        The symbols have unit power over each picture's own uses, and are zero beyond.
        """
        reals = values.gather(1, sent.places) * sent.amplitudes
        power = (reals.square().sum(dim=1) / uses).clamp_min(1e-8)
        reals = reals / power.sqrt()[:, None]
        if reals.shape[1] % 2:
            reals = torch.nn.functional.pad(reals, (0, 1))
        return torch.view_as_complex(reals.unflatten(1, (-1, 2)).contiguous()), power

    # --- receiver -----------------------------------------------------------------------------------------------------

    def share(self, classes: Tensor, key: tuple, rule: Rule, snr_db: Tensor, allowed: int) -> BatchPlan:
        """As the receiver derives it from the class map, int64 (b, rows, columns). snr_db: (b,)."""
        with torch.no_grad():
            uses, *_ = self.plan(key, rule, snr_db)
            deviations = self.deviations(classes)
            most = min(2 * allowed, deviations.shape[1])
            places, amplitudes, *_ = self.allocate(deviations, uses, 10 ** (-snr_db / 10) / 2, most)
        return BatchPlan(classes, deviations, places, amplitudes, snr_db)

    def estimate(self, symbols: Tensor, noise: Tensor, power: Tensor, sent: BatchPlan) -> Estimates:
        """LMMSE estimates. symbols: equalised, complex (b, k / 2); noise: variance of each, (b, k / 2); power: (b,)."""
        count = sent.places.shape[1]
        reals = torch.view_as_real(symbols).flatten(1)[:, :count]
        noise = (noise / 2).repeat_interleave(2, dim=1)[:, :count]
        amplitudes = sent.amplitudes / power.sqrt()[:, None]
        prior = sent.deviations.gather(1, sent.places).square()
        gain = amplitudes * prior / (amplitudes.square() * prior + noise)
        coefficients = torch.zeros_like(sent.deviations).scatter(1, sent.places, gain * reals)
        errors = sent.deviations.square().scatter(1, sent.places, prior - gain * amplitudes * prior)
        return Estimates(coefficients, errors, sent.deviations, sent.classes)

    def pictures(self, one: Estimates) -> Tensor:
        """Estimates -> float32 (b, 3, 16 rows, 16 columns), not clamped."""
        batch, rows, columns = one.classes.shape
        split, r = 3 * rows * columns, self.rotations.shape[1]
        means = one.coefficients[:, :split].unflatten(1, (3, rows, columns))
        ordered = one.coefficients[:, split:].unflatten(1, (rows, columns, DETAILS))
        turned = torch.einsum("byxs,byxrs->byxr", ordered[..., :r], self.rotations[one.classes])
        details = torch.cat([turned, ordered[..., r:]], dim=3)[..., self.back]
        with torch.autocast(details.device.type, enabled=False):
            return lapped.synthesise(Coefficients(means, details))


def known(errors: Tensor, deviations: Tensor, rows: int, columns: int, bands: tuple[int, ...]) -> Tensor:
    """Features of each block for the receiver's network, (b, rows, columns, 2 bands + 1).

    They are the logarithms, in decades, of the variance and of the posterior error in each band of details, and the
    posterior error per pixel value, absolute. errors, deviations: (b, m).
    """
    skip = 3 * rows * columns
    shape = (rows, columns, DETAILS)
    left = errors[:, skip:].unflatten(1, shape)
    features = []
    for values in (deviations[:, skip:].unflatten(1, shape).square(), left):
        parts = [values[..., start:end].mean(dim=3) for start, end in zip(bands, bands[1:])]
        features.append(torch.stack(parts, dim=3))
    of_means = (
        errors[:, :skip].unflatten(1, (3, -1)).mean(dim=2).sum(dim=1)
    )  # equal in all blocks, because the means are transformed together
    whole = (left.sum(dim=3) + of_means[:, None, None]) / SIZE
    return torch.cat([(torch.cat(features, dim=3) + 1e-7).log10() / 2 + 2, whole[..., None]], dim=3)


def _deviation(levels: Tensor) -> Tensor:
    """As `allocation.deviation`."""
    return (levels / (2 * STEPS)).exp2()
