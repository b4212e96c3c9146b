"""GenSC as a `System`: task KB -> source KB (Tx) -> JSCC encoder -> channel -> source KB (Rx) -> JSCC decoder.

One encoder serves both tasks. Both ends map the requirement to an instruction on their own; neither is told the
other's.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systems.gensc.config import GenSCConfig
from systems.gensc.jscc_encoder import JSCCEncoder
from systems.gensc.local_gain import LocalStatistics, activity, band_edges, band_energies, per_channel
from systems.gensc.reconstruction_decoder import ReconstructionDecoder, TimeEmbedding, diffusion_time
from systems.gensc.segmentation_decoder import SegmentationDecoder
from systems.gensc.source_kb_rx import SourceKBRx
from systems.gensc.source_kb_tx import SourceKBTx
from systems.gensc.task_kb import TaskKB
from systems.interface import Decoded, Link, Received, Transmission
from systems.layers import analog
from systems.layers.klt import BlockKLT, lmmse
from systems.layers.linear_path import BLOCK, CORRECTION, LinearPath, contrast, received_contrast
from systems.learned import ChannelFunction, LearnedSystem, pixel_cross_entropy

REFERENCE_SIGMA = 10 ** (-10 / 20)  # the constant time of the ablation without the tie: 10 dB
GAIN_RATE = 0.1  # share of the learning rate of the channels' gains
NOISY_FLOOR = 0.05  # of unit variance, under the logarithm of a received band's energy


class GenSC(LearnedSystem):
    """Joint image transmission and segmentation; both tasks share encoder and weights."""

    Config = GenSCConfig
    tasks = ("reconstruction", "segmentation")

    def build(self, config: GenSCConfig) -> None:
        self.task_kb_tx, self.task_kb_rx = TaskKB(), TaskKB()
        self.encoder_sees_snr = config.encoder_sees_snr
        self.linear_path = LinearPath(config.channels, config.decoder_coefficients)
        self.source_kb_tx = SourceKBTx(config)
        self.jscc_encoder = JSCCEncoder(config)
        self.time = TimeEmbedding(config.time_dim)
        self.power = nn.Linear(1, config.time_dim)
        bands = len(band_edges(config.channels)) - 1
        self.source_kb_rx = None
        if config.receiver_kb:
            self.source_kb_rx = SourceKBRx(config.channels + bands, config.receiver_hidden, config.time_dim)
        features = 2 * config.receiver_hidden if config.receiver_kb else 0
        self.local_statistics = LocalStatistics(config.channels, features) if config.local_gain else None
        self.reconstruction_decoder = ReconstructionDecoder(config, config.time_dim)
        self.segmentation_decoder = SegmentationDecoder(config, config.time_dim)
        self.jscc_encoder.start_from_klt(self.linear_path.klt)

    def rate_shares(self) -> dict[int, float]:
        """As in `Network`; gains, the scales of both ends, to which every other weight adapts, take a tenth."""
        shares = super().rate_shares()
        for share in self.jscc_encoder.share.values():
            for parameter in (share.log_gain, *share.power_allocation.parameters()):
                shares[id(parameter)] = GAIN_RATE
        return shares

    def start_from_klt(self, klt: BlockKLT) -> None:
        """Measured statistics for the linear path, and the power allocation that belongs to them: where training
        starts."""
        self.linear_path.load(klt)
        self.jscc_encoder.start_from_klt(klt)

    def own_parameters(self, task: str) -> list[nn.Parameter]:
        kb, encoder = self.source_kb_tx, self.jscc_encoder
        parts = [kb.align[task], encoder.share[task]]
        if kb.prior is not None and kb.prior_tasks == (task,):
            parts += [kb.prior, kb.prior_project]
        if task == "segmentation":
            parts += [kb.context[task], self.segmentation_decoder]
        else:
            parts += [encoder.local_gain, self.local_statistics, self.reconstruction_decoder]
            parts += [] if self.source_kb_rx is None else [self.source_kb_rx.block2]
        own = [parameter for part in parts if part is not None for parameter in part.parameters()]
        return own + ([encoder.exponent] if task == "reconstruction" and encoder.local else [])

    def prepare(self, images: Tensor, link: Link) -> Callable[[Link], Transmission]:
        instruction = self.task_kb_tx.match(link.requirement)
        padded = analog.pad_to_multiple(images, BLOCK)
        feature = self.source_kb_tx(padded, instruction)
        maps, local = self.jscc_encoder(padded, feature, self.linear_path, instruction)

        def send(at: Link) -> Transmission:
            gain = self.jscc_encoder.gain(instruction, at.snr_tensor(len(images), images.device))
            return self.linear_path.send(padded, maps, (gain[:, :, None, None] + local).exp(), at, self.name)

        return send

    def encode(self, images: Tensor, link: Link) -> Transmission:
        return self.prepare(images, link)(link)

    def _conditioning(self, ratio: Tensor, power: Tensor) -> Tensor:
        if not self.config.time_tied_to_noise:
            ratio = torch.full_like(ratio, REFERENCE_SIGMA**2)
        return self.time(diffusion_time(ratio.sqrt())) + self.power(torch.tanh(power.log() / 3)[:, None])

    def _knowledge(self, maps: Tensor, noise: Tensor, time: Tensor, task: str) -> tuple[Tensor, Tensor, Tensor | None]:
        """What both decoders read: symbols of unit variance, their noisy bands, and the source KB's features."""
        scaled = maps * math.sqrt(2) / (1 + 2 * noise)
        bands = band_energies(scaled, NOISY_FLOOR)
        if self.source_kb_rx is None:
            return scaled, bands, None
        return scaled, bands, self.source_kb_rx(torch.cat([scaled, bands], dim=1), time, task)

    def _estimate(
        self, maps: Tensor, noise: Tensor, power: Tensor, gain: Tensor, knowledge
    ) -> tuple[Tensor, Tensor | None]:
        """LMMSE estimate of the coefficients (B, C, h, w), absolute, and the activity it rests on (B, bands, h, w)."""
        path, channels = self.linear_path, maps.shape[1]
        log_amplitude = gain[:, :, None, None] - power.log()[:, None, None, None] / 2
        if self.local_statistics is None:
            return lmmse(maps, log_amplitude.exp(), path.prior, noise), None
        bands, log_gain, log_prior, context = self.local_statistics(*knowledge)
        spread = per_channel(bands, channels)
        log_amplitude = log_amplitude + log_gain - self.jscc_encoder.exponent[:, None, None] * spread
        prior = path.prior * (spread + log_prior).exp()
        estimate = lmmse(maps, log_amplitude.exp(), prior, noise)
        return estimate + CORRECTION * path.unit(received_contrast(power)) * context, bands

    def _reconstruct(self, received: Received, link: Link, steps: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Picture (B, 3, 16h, 16w), not clamped; the clean symbols, per real of variance 1/2; and the first step's
        activity."""
        instruction = self.task_kb_rx.match(link.requirement)
        maps, noise, power = self.linear_path.receive(received, link)
        ratio = noise_ratio(received)
        gain = self.jscc_encoder.gain(instruction, link.snr_tensor(len(maps), maps.device))
        time_start, first = diffusion_time(ratio.sqrt()), None
        for step in range(steps):
            time = self._conditioning(ratio, power)
            knowledge = self._knowledge(maps, noise, time, instruction)
            estimate, bands = self._estimate(maps, noise, power, gain, knowledge)
            scaled, _, feature = knowledge
            picture, correction = self.reconstruction_decoder(
                scaled, feature, estimate, self.linear_path, received_contrast(power), time
            )
            first = bands if step == 0 else first
            clean = (scaled + correction) / math.sqrt(2)
            if step + 1 < steps:  # DDIM: keep the predicted noise, at the next, smaller sigma
                following = torch.tan(time_start * (1 - (step + 1) / steps) * (math.pi / 2)).square()
                shrink = (following / ratio)[:, None, None, None]
                maps = clean + (maps - clean) * shrink.sqrt()
                noise, ratio = noise * shrink, following
        return picture, clean, first

    def decode(self, received: Received, link: Link) -> Decoded:
        instruction = self.task_kb_rx.match(link.requirement)
        if instruction == "reconstruction":
            picture = self._reconstruct(received, link, self.config.refinement_steps)[0]
            picture = picture[..., : link.height, : link.width]
            return Decoded(picture if self.training else picture.clamp(0, 1))
        maps, noise, power = self.linear_path.receive(received, link)
        time = self._conditioning(noise_ratio(received), power)
        scaled, _, feature = self._knowledge(maps, noise, time, instruction)
        size = (maps.shape[-2] * BLOCK, maps.shape[-1] * BLOCK)
        logits = self.segmentation_decoder(scaled, feature, time, size)
        return Decoded(logits[..., : link.height, : link.width])

    def training_step(self, images: Tensor, target: Tensor, link: Link, channel: ChannelFunction) -> dict[str, Tensor]:
        """Eq. 5 and beside it the errors of the clean symbols (the diffusion's own target) and of the activity; or Eq.
        6."""
        sent = self.encode(images, link)
        received = channel(sent, link)
        if link.task == "segmentation":
            return {"cross_entropy": pixel_cross_entropy(self.decode(received, link).output, target)}
        picture, clean, bands = self._reconstruct(received, link, steps=1)
        wanted = analog.to_features(sent.symbols.detach(), *clean.shape[1:])
        losses = {
            "picture": self.reconstruction_loss(picture[..., : link.height, : link.width], target),
            "latent": self.config.latent_loss * F.mse_loss(clean, wanted),
        }
        if bands is not None:
            padded = analog.pad_to_multiple(images, BLOCK)
            true = activity(
                self.linear_path.analyse(padded) * self.linear_path.unit(contrast(padded)), self.linear_path
            )
            losses["activity"] = self.config.activity_loss * F.mse_loss(bands, true)
        return losses


def noise_ratio(received: Received) -> Tensor:
    """Noise-to-signal ratio of each picture, (B,).

    Of the mean gain, not the mean of 1/|h|^2: under fast fading that mean has no limit, one deep fade decides it.
    """
    return 10 ** (-analog.receiver_snr_db(received) / 10)
