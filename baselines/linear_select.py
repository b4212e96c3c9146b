"""`linear-select`: a linear code that spends channel uses where the picture needs them.

The registry makes it under this name. A lapped transform splits the picture into 16 x 16 blocks. Each block belongs to
a class. Both ends hold a codebook with the variances of each class. The class map is sent as side information. It tells
both ends the variance of every coefficient of this picture, so the picture's strongest coefficients get the channel
uses, with water-filled power. The receiver estimates each by LMMSE. Only the codebook is learned, in closed form. Every
CBR and every budget is served: with fewer uses, the weakest coefficients are left out.

The encoder sees the SNR. The SNR decides how the power is distributed over the coefficients, and which share of the
budget the map gets. The parts are in `baselines.select`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from baselines.select import class_map, lapped
from baselines.select.allocation import STEPS, Allocation, Prices, allocate, deviation
from baselines.select.codebook import DETAILS, FREQUENCIES, SNRS_DB, USES_A_BLOCK, Codebook, padded_blocks
from baselines.select.lapped import BLOCK, Coefficients
from systems import weight_files
from systems.errors import BudgetTooSmall, CheckpointError
from systems.interface import Decoded, Link, Received, Transmission
from systems.layers.padding import pad_to_multiple
from systems.learned import FittedSystem
from systems.side_info import control_uses

CLASSES = 64
ROTATED = 1  # details that a class transforms; after a lapped transform more gain nothing (`bench perf select`)
POWER_BITS = 8
POWER_STEP_DB, POWER_FLOOR_DB = 0.125, -12.0  # of the power before normalisation; the expected power is 0 dB
_SILENCE_SEED = 17  # seed of the symbols that are sent for a picture with almost nothing to send
ROUNDS = 2  # how often the encoder chooses classes, then prices, in turn


def control_snr_db(link: Link) -> float:
    """SNR in dB that side information is coded for: the link's on AWGN, and the harness's choice on fading channels."""
    return float(link.snr_db) if link.channel == "awgn" else link.budget.control_snr_db


def charged_uses(link: Link, bits: int) -> int:
    """Complex uses that are charged for `bits` bits of side information."""
    return link.budget.side_info_uses(bits, control_snr_db(link))


def control_rate(snr_db: float) -> float:
    """Bits of side information per complex use, for a word of 1000 bits coded for `snr_db` dB."""
    return 1000 / control_uses(1000, snr_db)


class LinkPlan(NamedTuple):
    """What both ends know before anything is sent.

    rows, columns: of blocks.
    uses: complex symbols.
    map_bits: bits of the class map. Its first bit says whether there is a map.
    noise: noise variance of each real symbol that the transmitter assumes.
    """

    rows: int
    columns: int
    uses: int
    map_bits: int
    noise: float


@dataclass
class Estimate:
    """The receiver's estimate of one picture.

    coefficients: estimates, float64 (m,), in the order of `Codebook.all_levels`.
    errors: variance of the error of each, float64 (m,).
    levels: of all coefficients, int16 (m,).
    classes: int64 (rows, columns).
    """

    coefficients: np.ndarray
    errors: np.ndarray
    levels: np.ndarray
    classes: np.ndarray


class LinearSelect(FittedSystem):
    """The system.

    checkpoint: "shipped", or a codebook made by `python -m bench train --systems linear-select --config select`. Raises
    CheckpointError.
    """

    tasks = ("reconstruction",)
    encoder_sees_snr = True
    opens_files = True  # numba imports its compiler late
    fitted_size = f"lapped16-{CLASSES}"
    fitted_knowledge = f"{CLASSES} classes of lapped 16x16 blocks, the variances of each"

    def __init__(self, name: str = "linear-select", checkpoint: str = "shipped"):
        super().__init__()
        self.name = name
        for key, tensor in _blank().items():
            self.register_buffer(key, tensor)
        path = weight_files.shipped("baselines", "linear-select", self.fitted_size)
        path = path if checkpoint == "shipped" else Path(checkpoint)
        if path is None:
            raise CheckpointError(
                f"{name}: the file of its codebook, baselines/weights/linear-select-{self.fitted_size}.safetensors, is "
                "missing; restore it"
            )
        self.facts = weight_files.load_weights(self, path)
        self.codebook = Codebook.read({key: tensor.numpy() for key, tensor in self.state_dict().items()})
        self.variant = f"{self.fitted_size}-{self.facts['sha256'][:8]}"
        self.eval()

    @classmethod
    def of(cls, codebook: Codebook, name: str = "linear-select") -> LinearSelect:
        """The system with a codebook that is in no file."""
        system = cls.__new__(cls)
        super(LinearSelect, system).__init__()
        system.name, system.variant, system.facts = name, f"codebook-of-{codebook.classes}", {}
        system.codebook = codebook
        return system

    @classmethod
    def fit(cls, pictures: Iterable[Tensor]) -> dict[str, Tensor]:
        """Compute the tensors of the codebook from pictures float32 (3, H, W) in [0, 1]; shapes as in `Codebook`."""
        from baselines.select.fit import FitOptions, fit

        codebook = fit(pictures, FitOptions(classes=CLASSES, rotated=ROTATED), control_rate)
        return {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in codebook.tensors().items()}

    # --- both ends ----------------------------------------------------------------------------------------------------

    def plan(self, link: Link) -> LinkPlan:
        """The plan for one picture. Raises BudgetTooSmall if the budget does not hold the side information and one
        symbol.
        """
        rows, columns = padded_blocks(link.height, link.width)
        snr_db = float(link.snr_db)
        allowed = link.budget.allowed_uses()
        map_bits = 1 + self.codebook.map_bits(snr_db, allowed, rows * columns)
        uses = allowed - charged_uses(link, POWER_BITS + map_bits)
        if uses < 1:  # symbols are more important than the map; without it all blocks have one class
            map_bits = 1
            uses = allowed - charged_uses(link, POWER_BITS + map_bits)
        if uses < 1:
            raise BudgetTooSmall(
                f"{self.name}: the budget of {allowed} uses does not hold {POWER_BITS + 1} bits of side information "
                "and one symbol; raise --cbr or --kbits"
            )
        uses = min(uses, -(-rows * columns * (DETAILS + 3) // 2))
        return LinkPlan(rows, columns, uses, map_bits, 10 ** (-snr_db / 10) / 2)

    def allocate(self, levels: np.ndarray, plan: LinkPlan) -> Allocation:
        """Choose the coefficients that are sent, and their power.

        levels: int16 (m,), as `Codebook.all_levels` gives them.
        """
        return allocate(levels, plan.uses, plan.noise)

    # --- transmitter --------------------------------------------------------------------------------------------------

    def prepare(self, images: Tensor, link: Link) -> Callable[[Link], Transmission]:
        """See `System.prepare`. images: float32 (B, 3, H, W) in [0, 1].

        The first step transforms the pictures in every class. The choice of classes and coefficients depends on the
        SNR.
        """
        with torch.autocast("cpu", enabled=False):
            found = lapped.analyse(pad_to_multiple(images.detach().cpu().float(), BLOCK))
        means = found.means.double().numpy()
        parts = [self.codebook.analyse(one.flatten(0, 1).numpy()) for one in found.details]
        device = images.device

        def send(at: Link) -> Transmission:
            plan = self.plan(at)
            rows = [self._send(plan, at, mean, part) for mean, part in zip(means, parts, strict=True)]
            symbols, side_info = (torch.from_numpy(np.stack(part)).to(device) for part in zip(*rows, strict=True))
            return Transmission(symbols, side_info, side_info_snr_db=control_snr_db(at))

        return send

    def encode(self, images: Tensor, link: Link) -> Transmission:
        """See `System.encode`. images: float32 (B, 3, H, W) in [0, 1].

        The side information holds the power and the class map of each picture. Raises BudgetTooSmall.
        """
        return self.prepare(images, link)(link)

    def _send(self, plan: LinkPlan, link: Link, means: np.ndarray, parts) -> tuple[np.ndarray, np.ndarray]:
        """Symbols complex64 (uses,) and side information uint8 (POWER_BITS + map_bits,) of one picture."""
        return self.modulate(plan, *self.choose(plan, control_rate(control_snr_db(link)), parts), means, parts)

    def modulate(
        self,
        plan: LinkPlan,
        classes: np.ndarray,
        bits: np.ndarray,
        means: np.ndarray,
        parts,
        added: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `_send`, for classes and their bits as `choose` gives them. added: the addition of a network to each
        coefficient, in units of its deviation, float (coefficients,)."""
        levels = self.codebook.all_levels(classes)
        values = np.concatenate([means.ravel(), self.codebook.coefficients(parts, classes.ravel()).ravel()])
        if added is not None:
            values = values + added * deviation(levels)
        given = self.allocate(levels, plan)
        reals = np.zeros(2 * plan.uses)
        reals[: len(given.places)] = values[given.places] * given.amplitudes
        power = np.square(reals).sum() / plan.uses
        index = _power_index(power)
        if index == 0:
            reals, power = _silence(plan.uses), 1.0
        symbols = (reals / np.sqrt(power)).view(np.complex128).astype(np.complex64)
        side_info = np.zeros(POWER_BITS + plan.map_bits, np.uint8)
        side_info[:POWER_BITS] = index >> np.arange(POWER_BITS - 1, -1, -1) & 1
        side_info[POWER_BITS : POWER_BITS + len(bits)] = bits
        return symbols, side_info

    def choose(self, plan: LinkPlan, rate: float, parts) -> tuple[np.ndarray, np.ndarray]:
        """Choose the class of each block, int64 (rows, columns), and the bits of the map, at most `plan.map_bits`.

        The bits are a single 0 if no map is sent, otherwise 1 and the map.
        rate: bits per use of the control channel. parts: as `Codebook.analyse` gives them.
        """
        shape = plan.rows, plan.columns
        plain = np.full(shape, self.plain_class, np.int64)
        room = plan.map_bits - 1
        if room < 1:
            return plain, np.zeros(1, np.uint8)
        prices = self.allocate(self.codebook.all_levels(plain), plan).prices
        for _ in range(ROUNDS):
            costs = self.codebook.costs(parts, prices)
            classes, bits = self._within(costs, prices, rate, shape, room)
            if classes is None:
                return plain, np.zeros(1, np.uint8)
            prices = self.allocate(self.codebook.all_levels(classes), plan).prices
        return classes, np.concatenate([np.ones(1, np.uint8), bits])

    def _within(self, costs: np.ndarray, prices: Prices, rate: float, shape: tuple[int, int], room: int):
        """The map of least cost that takes at most `room` bits. The price of a bit is found by bisection."""
        tables = self.codebook.tables
        start = prices.use / rate
        low, high = start / 2**8, start * 2**16
        best, best_bits = None, None
        for _ in range(14):
            price = np.sqrt(low * high)
            classes, spent = class_map.choose(costs, price, shape, tables)
            bits = class_map.encode(classes, tables, room) if spent < room + 64 else None
            if bits is None:
                low = price
            else:
                best, best_bits, high = classes, bits, price
        return best, best_bits

    @property
    def plain_class(self) -> int:
        """The class of all blocks if no map is sent: the most common class."""
        return int(self.codebook.tables.share.argmin())

    # --- receiver -----------------------------------------------------------------------------------------------------

    def estimate(self, received: Received, link: Link) -> list[Estimate]:
        """LMMSE estimates of the coefficients of each picture, and the variances of their errors. Symbols: (B, n)."""
        plan = self.plan(link)
        symbols, variance = received.equalised()
        reals = torch.view_as_real(symbols.cpu().to(torch.complex128)).flatten(1).numpy()
        noise = (variance.cpu().double() / 2).repeat_interleave(2, dim=1).numpy()
        side_info = received.side_info.cpu().numpy()
        return [self._estimate(plan, *row) for row in zip(reals, noise, side_info, strict=True)]

    def _estimate(self, plan: LinkPlan, reals: np.ndarray, noise: np.ndarray, side_info: np.ndarray) -> Estimate:
        classes = np.full((plan.rows, plan.columns), self.plain_class, np.int64)
        if side_info[POWER_BITS]:
            classes = class_map.decode(side_info[POWER_BITS + 1 :], classes.shape, self.codebook.tables)
        levels = self.codebook.all_levels(classes)
        given = self.allocate(levels, plan)
        variances = np.exp2(levels / STEPS)
        coefficients, errors = np.zeros(len(levels)), variances.copy()
        index = int(side_info[:POWER_BITS].astype(np.int64) @ (1 << np.arange(POWER_BITS - 1, -1, -1)))
        if index > 0:
            amplitude = given.amplitudes / np.sqrt(_power(index))
            count, prior = len(given.places), np.square(given.deviations)
            gain = amplitude * prior / (np.square(amplitude) * prior + noise[:count])
            coefficients[given.places] = gain * reals[:count]
            errors[given.places] = prior - gain * amplitude * prior
        return Estimate(coefficients, errors, levels, classes)

    def pictures(self, estimates: list[Estimate]) -> Tensor:
        """Estimates of B pictures of one size -> pictures float32 (B, 3, 16 rows, 16 columns), not clamped."""
        means, details = [], []
        for one in estimates:
            rows, columns = one.classes.shape
            split = 3 * rows * columns
            means.append(one.coefficients[:split].reshape(3, rows, columns).astype(np.float32))
            blocks = one.coefficients[split:].reshape(rows * columns, DETAILS)
            details.append(self.codebook.details(blocks, one.classes.ravel()).reshape(rows, columns, DETAILS))
        with torch.autocast("cpu", enabled=False):
            return lapped.synthesise(
                Coefficients(torch.from_numpy(np.stack(means)), torch.from_numpy(np.stack(details)))
            )

    def decode(self, received: Received, link: Link) -> Decoded:
        """See `System.decode`. Symbols (B, n) -> pictures float32 (B, 3, H, W) in [0, 1]."""
        pictures = self.pictures(self.estimate(received, link))[..., : link.height, : link.width]
        return Decoded(pictures.clamp(0, 1).to(received.symbols.device))

    def describe(self) -> dict:
        """See `System.describe`."""
        keys = ("images_seen", "data", "knowledge", "licence", "sha256", "commit")
        known = {key: self.facts[key] for key in keys if key in self.facts}
        return {"system": self.name, "variant": self.variant, "parameters": 0, **known}


def _power_index(power: float) -> int:
    """The nearest step, 1 to 255. 0 if the picture has almost nothing to send."""
    if power < 10 ** ((POWER_FLOOR_DB - 12) / 10):
        return 0
    step = round((10 * np.log10(power) - POWER_FLOOR_DB) / POWER_STEP_DB)
    return int(np.clip(step, 1, 2**POWER_BITS - 1))


def _power(index: int) -> float:
    return 10 ** ((index * POWER_STEP_DB + POWER_FLOOR_DB) / 10)


def _silence(uses: int) -> np.ndarray:
    """Known reals of unit power per use, float64 (2 uses,). They are sent for a picture that has almost nothing to
    send.
    """
    rng = np.random.Generator(np.random.PCG64(_SILENCE_SEED))
    return (rng.integers(0, 2, 2 * uses) * 2.0 - 1.0) * np.sqrt(0.5)


def _blank() -> dict[str, Tensor]:
    """Tensors with the shapes and types that a weight file holds."""
    short = torch.int16
    return {
        "order": torch.zeros(DETAILS, dtype=short),
        "rotations": torch.zeros(CLASSES, ROTATED, ROTATED, dtype=torch.int8),
        "levels": torch.zeros(CLASSES, DETAILS, dtype=short),
        "mean_levels": torch.zeros(3, FREQUENCIES, dtype=short),
        "share": torch.zeros(CLASSES, dtype=short),
        "left": torch.zeros(CLASSES + 1, CLASSES, dtype=short),
        "above": torch.zeros(CLASSES + 1, CLASSES, dtype=short),
        "bits": torch.zeros(len(SNRS_DB), len(USES_A_BLOCK), dtype=short),
    }
