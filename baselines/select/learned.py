"""Base of the learned systems on the front end of `linear-select`: a network at each end, beside the closed form.

`gensc-select` and `adjscc-select` derive from it. The transmitter's network (not every size has one) adds to the
selected coefficients, in units of their standard deviations. The receiver's network has three inputs: the linear
picture, the variance of each block's coefficients by its class, and the part of this variance that the channel left
unknown. Its output is added to the linear picture, in units of the unknown part. So it changes little in blocks that
arrived, and can change much in blocks that did not. The last layers start from zero, so that an untrained system gives
the same as `linear-select`.

When the system is measured, the front end is that of `linear-select`, with the bits of the class map. In training and
validation it is `baselines.select.batch`, which stays on the device and needs no Numba.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.linear_select import Estimate, LinearSelect, control_rate, control_snr_db
from baselines.select import lapped
from baselines.select.allocation import STEPS
from baselines.select.batch import BatchFront, known
from baselines.select.codebook import DETAILS
from baselines.select.lapped import BLOCK, SIZE
from systems.errors import BudgetTooSmall, CheckpointError
from systems.interface import Decoded, Link, Received, Transmission
from systems.layers.padding import pad_to_multiple
from systems.layers.receiver import receiver_snr_db
from systems.learned import LearnedSystem

BANDS = (0, 3, 6, 12, 24, 48, 96, 192, 384, DETAILS)  # details by falling variance, about an octave each
FEATURES = len(BANDS) - 1  # of each block, for each end
FINE = 4  # along each axis, `read_linear` gives one position for this many pixels
READ = 2 * 3 * FINE**2 + 2 * FEATURES + 2  # channels of what `read_linear` gives
MOST_CONTRAST = 4.0  # units in which a contrast is limited
LARGE_UNIT = 0.1  # a large standard deviation of the linear picture's error; values range from 0 to 1
LEAST_UNIT = 1e-3  # of a pixel's standard deviation: a quarter of a grey level


class SelectingSystem(LearnedSystem):
    """A learned system on the front end of `linear-select`, for reconstruction. One set of weights serves every budget.

    Subclasses implement `build_networks`, `correction`, and `added` if they have a network at the transmitter.
    """

    tasks = ("reconstruction",)
    encoder_sees_snr = True
    opens_files = True  # numba imports its compiler late
    joins_snr = False  # the length of the class map depends on the SNR, and with it the number of symbols
    sends_features = False  # whether there is a network at the transmitter

    def build(self, config) -> None:
        """Create the layers."""
        object.__setattr__(self, "front", LinearSelect())  # no part of the weights
        object.__setattr__(self, "_batch_front", None)
        self.register_buffer("codebook_sha256", _digest(self.front.facts["sha256"]))
        self.build_networks(config)

    def build_networks(self, config) -> None:
        """Create the layers of both networks, and set `sends_features`. Every subclass implements it."""
        raise NotImplementedError(f"{type(self).__name__} must implement build_networks(config)")

    def added(self, images: Tensor, variances: Tensor, snr_db: Tensor) -> Tensor:
        """The transmitter's addition to the first details of each block, in units of their deviations.

        images: (B, 3, 16 rows, 16 columns) in [0, 1]; variances: of each block's bands, (B, rows, columns, FEATURES),
        in decades; SNR in dB (B,) -> (B, rows, columns, up to 765). Subclasses with `sends_features` implement it.
        """
        raise NotImplementedError(f"{type(self).__name__} sets sends_features, so it must implement added")

    def correction(self, linear: Tensor, features: Tensor, unit: Tensor, snr_db: Tensor) -> Tensor:
        """The receiver's addition to the linear picture, in units of `unit`. Every subclass implements it.

        linear: (B, 3, 16 rows, 16 columns); features: of each block, (B, rows, columns, 2 FEATURES), in decades; unit:
        standard deviation of the error of the linear picture, (B, 1, rows, columns); SNR in dB (B,) -> (B, 3, 16 rows,
        16 columns).
        """
        raise NotImplementedError(f"{type(self).__name__} must implement correction")

    def fill(self, checkpoint: str) -> tuple[dict, str]:
        """As in `Network`; weights that were trained on another codebook are refused."""
        own = self.codebook_sha256.clone()
        found = super().fill(checkpoint)
        if not torch.equal(own, self.codebook_sha256):
            raise CheckpointError(
                f"{self.name}: the weights were trained on another codebook than the one that ships; train them again"
            )
        return found

    def knowledge(self) -> tuple[str, ...]:
        """See `Network.knowledge`. The codebook is prior knowledge too."""
        return (*super().knowledge(), LinearSelect.fitted_knowledge)

    # --- transmitter --------------------------------------------------------------------------------------------------

    def prepare(self, images: Tensor, link: Link) -> Callable[[Link], Transmission]:
        """See `System.prepare`. images: float32 (B, 3, H, W) in [0, 1]. Without a network at the transmitter it is
        `linear-select`'s.
        """
        if not self.sends_features:
            return self.front.prepare(images, link)
        return lambda at: self.encode(images, at)

    def encode(self, images: Tensor, link: Link) -> Transmission:
        """See `System.encode`. images: float32 (B, 3, H, W) in [0, 1].

        If every picture has its own SNR, the pictures have different numbers of symbols, and short rows end in zeros.
        In training, the side information holds the classes and the power in decibels as numbers, not as bits.
        """
        if self.training or self.watching:
            return self._encode_batch(images, link)
        if not isinstance(link.snr_db, Tensor) or link.snr_db.ndim == 0:
            return self._encode(images, link)
        sent = [
            self._encode(image[None], link.at(snr_db=snr))
            for image, snr in zip(images, link.snr_db.tolist(), strict=True)
        ]
        uses = max(one.symbols.shape[1] for one in sent)
        bits = max(one.side_info.shape[1] for one in sent)
        return Transmission(
            torch.cat([F.pad(one.symbols, (0, uses - one.symbols.shape[1])) for one in sent]),
            torch.cat([F.pad(one.side_info, (0, bits - one.side_info.shape[1])) for one in sent]),
        )

    def _encode(self, images: Tensor, link: Link) -> Transmission:
        """Encode a batch at one SNR, with the bits of the class map."""
        if not self.sends_features:
            return self.front.encode(images, link)
        front, plan, rate = self.front, self.front.plan(link), control_rate(control_snr_db(link))
        padded = pad_to_multiple(images.detach().float(), BLOCK)
        found = lapped.analyse(padded.cpu())
        parts = [front.codebook.analyse(one.flatten(0, 1).numpy()) for one in found.details]
        chosen = [front.choose(plan, rate, part) for part in parts]
        variances = np.stack([self._variances(front.codebook.levels[classes]) for classes, _ in chosen])
        snr_db = self.shared_snr_db(link, images)
        added = self.added(padded, torch.from_numpy(variances).float().to(images.device), snr_db)
        added = F.pad(added.float(), (0, DETAILS - added.shape[3])).flatten(1)
        added = F.pad(added, (3 * plan.rows * plan.columns, 0)).detach().cpu().double().numpy()
        rows = [
            front.modulate(plan, *which, means, part, own)
            for which, means, part, own in zip(chosen, found.means.double().numpy(), parts, added, strict=True)
        ]
        symbols, side_info = (torch.from_numpy(np.stack(part)).to(images.device) for part in zip(*rows, strict=True))
        return Transmission(symbols, side_info, side_info_snr_db=control_snr_db(link))

    def _encode_batch(self, images: Tensor, link: Link) -> Transmission:
        padded, snr_db, front = (
            pad_to_multiple(images.float(), BLOCK),
            self._snr(images, link),
            self.batch_front(images),
        )
        values, sent, uses = front.prepare(padded, *self._rule(link), snr_db, link.budget.allowed_uses())
        if self.sends_features:
            rows, columns = sent.classes.shape[1:]
            levels = front.levels[sent.classes]
            added = self.added(padded, self._band_means((levels / STEPS).exp2()), snr_db).float()
            added = F.pad(F.pad(added, (0, DETAILS - added.shape[3])).flatten(1), (3 * rows * columns, 0))
            values = values + added * sent.deviations
        symbols, power = front.modulate(values, sent, uses)
        decibels = (80 * power.detach().log10()).round() / 8  # in the steps of the real link
        return Transmission(symbols, torch.cat([sent.classes.flatten(1).float(), decibels[:, None]], dim=1))

    # --- receiver -----------------------------------------------------------------------------------------------------

    def decode(self, received: Received, link: Link) -> Decoded:
        """See `System.decode`. Symbols (B, n) -> pictures float32 (B, 3, H, W), in [0, 1] outside of training."""
        if self.training or self.watching:
            linear, features = self._linear_batch(received, link)
        else:
            estimates = self._estimates(received, link)
            device = received.symbols.device
            linear = self.front.pictures(estimates).to(device)
            features = torch.from_numpy(np.stack([self._known(one) for one in estimates])).to(device)
        unit = features[..., -1:].clamp_min(LEAST_UNIT**2).sqrt().permute(0, 3, 1, 2)
        snr_db = self.told(receiver_snr_db(received))
        pictures = linear + self.correction(linear, features[..., :-1], unit, snr_db)
        pictures = pictures[..., : link.height, : link.width]
        return Decoded(pictures if self.training else pictures.clamp(0, 1))

    def _linear_batch(self, received: Received, link: Link) -> tuple[Tensor, Tensor]:
        front, side_info = self.batch_front(received.symbols), received.side_info
        rows, columns = -(-link.height // BLOCK), -(-link.width // BLOCK)
        classes = side_info[:, :-1].long().unflatten(1, (rows, columns))
        snr_db, allowed = self._snr(received.symbols, link), link.budget.allowed_uses()
        sent = front.share(classes, *self._rule(link), snr_db, allowed)
        symbols, variance = received.equalised()
        with torch.autocast(symbols.device.type, enabled=False):
            found = front.estimate(symbols, variance.expand_as(symbols), 10 ** (side_info[:, -1] / 10), sent)
            return front.pictures(found), known(found.errors, found.deviations, rows, columns, BANDS)

    def _estimates(self, received: Received, link: Link) -> list[Estimate]:
        if not isinstance(link.snr_db, Tensor) or link.snr_db.ndim == 0:
            return self.front.estimate(received, link)
        found = []
        for row, snr in enumerate(link.snr_db.tolist()):
            own, at = slice(row, row + 1), link.at(snr_db=snr)
            uses = self.front.plan(at).uses
            csi = received.csi[own] if received.csi.shape[1] == 1 else received.csi[own, :uses]
            part = Received(received.symbols[own, :uses], csi, received.noise_var[own], received.side_info[own])
            found += self.front.estimate(part, at)
        return found

    def _known(self, one: Estimate) -> np.ndarray:
        """As `batch.known`, float32 (rows, columns, 2 FEATURES + 1), of one picture."""
        rows, columns = one.classes.shape
        skip = 3 * rows * columns
        errors = one.errors[skip:].reshape(rows, columns, DETAILS)
        of_means = (
            one.errors[:skip].reshape(3, -1).mean(axis=1).sum()
        )  # equal in all blocks, because the means are transformed together
        whole = (errors.sum(axis=-1) + of_means) / SIZE
        variances = self._variances(one.levels[skip:].reshape(rows, columns, DETAILS))
        return np.concatenate([variances, _in_decades(errors), whole[..., None]], axis=-1).astype(np.float32)

    # --- both ends ----------------------------------------------------------------------------------------------------

    def batch_front(self, like: Tensor) -> BatchFront:
        """The front end for training, on the device of `like`, a tensor of any shape."""
        if self._batch_front is None or self._batch_front.device != like.device:
            front = BatchFront(self.front.codebook, self.front.plain_class, like.device)
            object.__setattr__(self, "_batch_front", front)
        return self._batch_front

    def _rule(self, link: Link):
        """Key and rule of the plans of a link, for `BatchFront.plan`."""

        def rule(snr_db: float) -> tuple[int, int, float]:
            at = link.at(snr_db=snr_db)
            rate = control_rate(control_snr_db(at))
            try:
                plan = self.front.plan(at)
            except BudgetTooSmall:  # at an SNR of the table that may never occur
                return 1, 1, rate
            return plan.uses, plan.map_bits, rate

        return (link.budget, link.height, link.width, link.channel), rule

    @staticmethod
    def _snr(like: Tensor, link: Link) -> Tensor:
        """SNR in dB of each picture, (B,)."""
        return link.snr_tensor(len(like), like.device)

    @staticmethod
    def _variances(levels: np.ndarray) -> np.ndarray:
        """Levels (..., 765) -> logarithms of the mean variance in each band, (..., FEATURES)."""
        return _in_decades(np.exp2(levels.astype(np.float64) / STEPS))

    @staticmethod
    def _band_means(values: Tensor) -> Tensor:
        """Variances (..., 765) -> logarithms of their means in each band, (..., FEATURES)."""
        parts = [values[..., start:end].mean(dim=-1) for start, end in zip(BANDS, BANDS[1:])]
        return (torch.stack(parts, dim=-1) + 1e-7).log10() / 2 + 2


def read_linear(linear: Tensor, features: Tensor, fine: Tensor) -> tuple[Tensor, ...]:
    """The input of a receiver's network, at 1/4 of the picture's size; `READ` channels in all.

    linear: (B, 3, H, W); features: of each block, (B, H/16, W/16, 2 FEATURES); fine: standard deviation of the error of
    the linear picture, (B, 1, H/4, W/4). Returns the linear picture, its contrast, the features, and `fine` in two
    scales. The contrast is the difference to the mean of the blocks. It is given in units of `fine`, so that it looks
    the same at every SNR, and softly limited.
    """
    repeat = BLOCK // FINE
    spread = features.permute(0, 3, 1, 2).repeat_interleave(repeat, dim=2).repeat_interleave(repeat, dim=3)
    mean = F.interpolate(F.avg_pool2d(linear, BLOCK), scale_factor=float(BLOCK), mode="bilinear")
    contrast = F.pixel_unshuffle(linear - mean, FINE) / fine
    return (
        F.pixel_unshuffle(linear - 0.5, FINE),
        contrast / (1 + contrast.abs() / MOST_CONTRAST),
        spread,
        fine.log10(),
        fine / LARGE_UNIT,
    )


def _in_decades(values: np.ndarray) -> np.ndarray:
    """Variances (..., 765) -> logarithms of their means in each band, (..., FEATURES)."""
    means = np.add.reduceat(values, list(BANDS[:-1]), axis=-1) / np.diff(BANDS)
    return np.log10(means + 1e-7) / 2 + 2


def _digest(sha256: str) -> Tensor:
    """A hexadecimal digest as uint8 (32,)."""
    return torch.tensor(list(bytes.fromhex(sha256)), dtype=torch.uint8)
