"""GenSC as a `System`: task KB -> source KB (Tx) -> JSCC encoder -> channel -> source KB (Rx) -> JSCC decoder.

The registry makes it under the name `gensc`. One encoder serves both tasks. Each end maps the requirement to an
instruction by itself; the instruction is not sent.

The parts are in the other files of this package. `open_choices.py` lists every choice. The head of each file says
where size `paper` fills the gaps of the paper or differs from it. These points concern the whole system:
- Sides are padded to multiples of 16 by repeating the edge, and pictures and logits are cut.
- The paper gives neither number nor power of the symbols. Here a picture has `channels` real values per 16 x 16 block,
  two neighbouring values of a channel make one symbol, and each picture has unit power. If the budget is smaller, the
  last channels are not sent, as for segmentation within 20 Kbits.
- In the paper y enters KB and decoders as it is received. Here it is equalised first (y/h), and the receiver also knows
  the noise variance, which gives the time of the diffusion. The transmitter does not know the SNR.
- The time is that of the nearest SNR of the range that the weights were trained at (`LearnedSystem.told`). The paper
  has no such limit.
- Training follows `configs/train/paper.toml`, whose comment says what is not the paper's. The paper trains each method
  end to end, and does not say whether both tasks share one run. Here they do.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systems.errors import UserError
from systems.gensc.config import GenSCConfig
from systems.gensc.jscc_encoder import JSCCEncoder
from systems.gensc.reconstruction_decoder import ReconstructionDecoder, TimeEmbedding, diffusion_time
from systems.gensc.segmentation_decoder import SegmentationDecoder
from systems.gensc.source_kb_rx import SourceKBRx
from systems.gensc.source_kb_tx import SourceKBTx
from systems.gensc.task_kb import TaskKB
from systems.interface import Decoded, Link, Received, Transmission
from systems.layers.klt import BlockKLT, lmmse
from systems.layers.linear_path import BLOCK, LinearPath
from systems.layers.padding import pad_to_multiple, padded_size
from systems.layers.power import unit_power
from systems.layers.receiver import receiver_snr_db
from systems.layers.symbol_layout import spread_variance, to_features, to_symbols
from systems.learned import GAIN_RATE, ChannelFunction, LearnedSystem
from systems.losses import pixel_cross_entropy

REFERENCE_SIGMA = 10 ** (-10 / 20)  # 10 dB: the constant noise level of the ablation without `time_tied_to_noise`


class GenSC(LearnedSystem):
    """Joint image transmission and segmentation (Yuan et al., 2024). Both tasks share the encoder and its weights."""

    Config = GenSCConfig
    tasks = ("reconstruction", "segmentation")

    def build(self, config: GenSCConfig) -> None:
        """Create the layers that `config` describes."""
        self.task_kb_tx, self.task_kb_rx = TaskKB(), TaskKB()
        self.encoder_sees_snr = config.encoder_sees_snr
        if config.linear_path:
            kept = config.decoder_coefficients or config.channels
            self.linear_path = LinearPath(config.channels, kept, config.contrast_units)
        self.source_kb_tx = SourceKBTx(config)
        self.jscc_encoder = JSCCEncoder(config)
        self.time = TimeEmbedding(config.time_dim)
        self.power = nn.Linear(1, config.time_dim) if config.linear_path else None
        self.source_kb_rx: SourceKBRx | None = None
        if config.receiver_kb:
            time_dim = config.time_dim if config.noise_in_residuals else 0
            self.source_kb_rx = SourceKBRx(config.channels, config.receiver_hidden, time_dim)
        self.reconstruction_decoder = ReconstructionDecoder(config)
        self.segmentation_decoder = SegmentationDecoder(config)
        if self.linear_path is not None:
            self.jscc_encoder.start_from_klt(self.linear_path.klt)

    def rate_shares(self) -> dict[int, float]:
        """See `Network.rate_shares`. The channels' gains get the share of their powers at each SNR."""
        shares = super().rate_shares()
        for task in self.tasks:
            share = self.jscc_encoder.of(task)
            if share is not None:
                shares[id(share.log_gain)] = GAIN_RATE
        return shares

    def start_from_klt(self, klt: BlockKLT) -> None:
        """Copy measured statistics into the linear path, and set the channels' gains to the power allocation that
        follows.

        Training calls it at its start.
        """
        if self.linear_path is not None:
            self.linear_path.load(klt)
            self.jscc_encoder.start_from_klt(klt)

    def own_parameters(self, task: str) -> list[nn.Parameter]:
        """See `Network.own_parameters`."""
        kb, encoder, decoder = self.source_kb_tx, self.jscc_encoder, self.reconstruction_decoder
        parts: list[nn.Module | None] = [kb.align[task], encoder.of(task)]
        if kb.prior_tasks == (task,):
            parts += [kb.prior, kb.prior_project]
        if task == "segmentation":
            parts += [kb.context, self.segmentation_decoder]
        else:
            parts += [decoder]
            parts += [] if self.source_kb_rx is None else [self.source_kb_rx.block2]
            if not self.config.noise_in_residuals:
                parts += [self.time, self.power]
        return [parameter for part in parts if part is not None for parameter in part.parameters()]

    def prepare(self, images: Tensor, link: Link) -> Callable[[Link], Transmission]:
        """See `System.prepare`. images: float32 (B, 3, H, W) in [0, 1].

        The first step does everything but the gains of the channels, which depend on the SNR.
        """
        instruction = self.task_kb_tx.match(link.requirement)
        padded = pad_to_multiple(images, BLOCK)
        feature = self.source_kb_tx(padded, instruction)
        maps = self.jscc_encoder(padded, feature, self.linear_path, instruction)

        def send(at: Link) -> Transmission:
            gain = self.jscc_encoder.gain(instruction, self.shared_snr_db(at, images))
            scale = gain[:, :, None, None].exp()
            if self.linear_path is not None:
                return self.linear_path.send(padded, maps, scale, at, self.name)
            symbols, _ = unit_power(to_symbols(maps * scale, at.budget.allowed_uses()))
            return Transmission(symbols)

        return send

    def encode(self, images: Tensor, link: Link) -> Transmission:
        """See `System.encode`. images: float32 (B, 3, H, W) in [0, 1]."""
        return self.prepare(images, link)(link)

    def _conditioning(self, ratio: Tensor, power: Tensor | None) -> Tensor:
        """Embedding (B, time_dim) of the noise-to-signal ratio (B,), limited to the trained range, and of the power
        (B,).
        """
        if not self.config.time_tied_to_noise:
            ratio = torch.full_like(ratio, REFERENCE_SIGMA**2)
        ratio = 10 ** (-self.told(-10 * torch.log10(ratio.clamp_min(1e-12))) / 10)
        time = self.time(diffusion_time(ratio.sqrt()))
        return time if self.power is None or power is None else time + self.power(torch.tanh(power.log() / 3)[:, None])

    def _receive(self, received: Received, link: Link) -> tuple[Tensor, Tensor, Tensor | None]:
        """Symbol maps (B, C, h, w), the noise variance of each value, and the power before normalisation (B,).

        The power is None if it is not sent.
        """
        if self.linear_path is not None:
            return self.linear_path.receive(received, link)
        height, width = padded_size(link.height, link.width, BLOCK)
        shape = (self.config.channels, height // BLOCK, width // BLOCK)
        symbols, variance = received.equalised()
        return to_features(symbols, *shape), spread_variance(variance, *shape), None

    def _knowledge(self, maps: Tensor, noise: Tensor, time: Tensor, task: str) -> tuple[Tensor, Tensor | None]:
        """The inputs of both decoders: symbols of unit variance, and the features of the source KB."""
        scaled = maps * math.sqrt(2)
        if self.config.lmmse:
            scaled = scaled / (1 + 2 * noise)
        return scaled, None if self.source_kb_rx is None else self.source_kb_rx(scaled, time, task)

    def _estimate(self, path: LinearPath, maps: Tensor, noise: Tensor, power: Tensor, gain: Tensor) -> Tensor:
        """Estimate of the coefficients in absolute units, (B, C, h, w)."""
        amplitude = (gain[:, :, None, None] - power.log()[:, None, None, None] / 2).exp()
        return lmmse(maps, amplitude, path.prior, noise) if self.config.lmmse else maps / amplitude

    def _reconstruct(self, received: Received, link: Link, steps: int) -> tuple[Tensor, Tensor | None]:
        """Decode a picture in `steps` refinement steps.

        Returns the picture (B, 3, 16h, 16w), not clamped, and the clean symbols with variance 1/2 per real, or None
        where they are not predicted.
        """
        instruction = self.task_kb_rx.match(link.requirement)
        maps, noise, power = self._receive(received, link)
        ratio = noise_ratio(received)
        gain = self.jscc_encoder.gain(instruction, self.shared_snr_db(link, maps))
        time_start, path = diffusion_time(ratio.sqrt()), self.linear_path
        for step in range(steps):
            time = self._conditioning(ratio, power)
            scaled, feature = self._knowledge(maps, noise, time, instruction)
            if path is not None and power is not None:
                estimate = self._estimate(path, maps, noise, power, gain)
                picture, correction = self.reconstruction_decoder(
                    scaled, feature, estimate, path, path.received_contrast(power), time
                )
            else:
                picture, correction = self.reconstruction_decoder.alone(scaled, feature, time)
            clean = None if correction is None else (scaled + correction) / math.sqrt(2)
            if step + 1 < steps:  # DDIM: keep the predicted noise, scaled to the next, smaller sigma
                if clean is None:
                    raise UserError(
                        f"{self.name}: size {self.size} does not predict the clean symbols (latent_loss = 0), and more "
                        "than one refinement step needs them; use one step, or train a size with latent_loss"
                    )
                following = torch.tan(time_start * (1 - (step + 1) / steps) * (math.pi / 2)).square()
                shrink = (following / ratio)[:, None, None, None]
                maps = clean + (maps - clean) * shrink.sqrt()
                noise, ratio = noise * shrink, following
        return picture, clean

    def decode(self, received: Received, link: Link) -> Decoded:
        """See `System.decode`. Symbols (B, n) -> pictures (B, 3, H, W) or logits (B, 21, H, W), as the requirement
        asks.

        Raises UserError if the requirement fits neither task, or if the size cannot do more than one refinement step
        and is asked to.
        """
        instruction = self.task_kb_rx.match(link.requirement)
        if instruction == "reconstruction":
            picture = self._reconstruct(received, link, self.config.refinement_steps)[0]
            picture = picture[..., : link.height, : link.width]
            return Decoded(picture if self.training else picture.clamp(0, 1))
        maps, noise, power = self._receive(received, link)
        time = self._conditioning(noise_ratio(received), power)
        scaled, feature = self._knowledge(maps, noise, time, instruction)
        size = (maps.shape[-2] * BLOCK, maps.shape[-1] * BLOCK)
        logits = self.segmentation_decoder(scaled, feature, time, size)
        return Decoded(logits[..., : link.height, : link.width])

    def training_step(self, images: Tensor, target: Tensor, link: Link, channel: ChannelFunction) -> dict[str, Tensor]:
        """Losses by name, each a scalar. images: (B, 3, H, W) in [0, 1]. target: as in `LearnedSystem.training_step`.

        For segmentation this is Eq. 6. For reconstruction it is Eq. 5, and where its weight is not 0 the error of the
        predicted clean symbols (the usual target of a diffusion).
        """
        sent = self.encode(images, link)
        received = channel(sent, link)
        if link.task == "segmentation":
            return {"cross_entropy": pixel_cross_entropy(self.decode(received, link).output, target)}
        picture, clean = self._reconstruct(received, link, steps=1)
        losses = {"picture": self.reconstruction_loss(picture[..., : link.height, : link.width], target)}
        if clean is not None and self.config.latent_loss:
            wanted = to_features(sent.symbols.detach(), *clean.shape[1:])
            losses["latent"] = self.config.latent_loss * F.mse_loss(clean, wanted)
        return losses


def noise_ratio(received: Received) -> Tensor:
    """Noise-to-signal ratio of each picture, (B,), from N0 (B,) and h, (B, 1) or (B, n).

    It is N0 over the mean gain, not the mean of N0/|h|^2. Under fast fading that mean is infinite, and one deep fade
    would dominate it.
    """
    return 10 ** (-receiver_snr_db(received) / 10)
