"""GenSC as a `System`: task KB -> source KB (Tx) -> JSCC encoder -> channel -> source KB (Rx) -> JSCC decoder.

One encoder serves both tasks. Both ends map the requirement to an instruction on their own; neither is told the other's.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systems import analog
from systems.errors import BudgetTooSmall
from systems.gensc.config import GenSCConfig
from systems.gensc.jscc_encoder import BLOCK, JSCCEncoder
from systems.gensc.reconstruction_decoder import ReconstructionDecoder, TimeEmbedding, diffusion_time
from systems.gensc.segmentation_decoder import SegmentationDecoder
from systems.gensc.source_kb_rx import SourceKBRx
from systems.gensc.source_kb_tx import SourceKBTx
from systems.gensc.task_kb import TaskKB
from systems.interface import Decoded, Link, Received, Transmission
from systems.klt import BlockKLT, lmmse
from systems.learned import ChannelFunction, LearnedSystem, pixel_cross_entropy

REFERENCE_SIGMA = 10 ** (-10 / 20)  # the constant time of the ablation without the tie: 10 dB


class GenSC(LearnedSystem):
    """Joint image transmission and segmentation; both tasks share encoder and weights."""

    Config = GenSCConfig
    tasks = ("reconstruction", "segmentation")

    def build(self, config: GenSCConfig) -> None:
        self.task_kb_tx, self.task_kb_rx = TaskKB(), TaskKB()
        self.encoder_sees_snr = config.encoder_sees_snr
        self.source_kb_tx = SourceKBTx(config)
        self.jscc_encoder = JSCCEncoder(config)
        self.time = TimeEmbedding(config.time_dim)
        self.power = nn.Linear(1, config.time_dim)
        self.source_kb_rx = SourceKBRx(config.channels, config.receiver_hidden, config.time_dim) if config.receiver_kb else None
        self.log_prior = nn.Parameter(torch.zeros(config.channels))
        self.synthesis = nn.ConvTranspose2d(config.channels, 3, BLOCK, stride=BLOCK)
        self.reconstruction_decoder = ReconstructionDecoder(config, config.time_dim)
        self.segmentation_decoder = SegmentationDecoder(config, config.time_dim)
        for parameter in (self.log_prior, self.jscc_encoder.log_gain, *self.jscc_encoder.power_allocation.parameters()):
            parameter.lr_scale = 0.1  # both ends' scales: every other weight adapts to them

    def start_from_klt(self, klt: BlockKLT) -> None:
        """Set the linear path to the block-KLT code: its transform, power allocation, prior and inverse.

        Transform and inverse stay there: the noise of an optimiser's steps on them cost more at high SNR than they gained.
        """
        count = self.config.channels
        kernel = klt.basis[:, :count].T.reshape(count, 3, BLOCK, BLOCK)
        with torch.no_grad():
            self.jscc_encoder.shortcut.weight.copy_(kernel)
            self.jscc_encoder.shortcut.bias.copy_(-(klt.mean @ klt.basis[:, :count]))
            self.jscc_encoder.log_gain.copy_(klt.amplitudes(count).log().expand(2, -1))
            self.jscc_encoder.deviation.copy_(klt.eigenvalues[:count].sqrt())
            self.log_prior.copy_(klt.eigenvalues[:count].log())
            self.synthesis.weight.copy_(kernel)
            self.synthesis.bias.copy_(klt.mean.reshape(3, -1).mean(dim=1))
        for parameter in (*self.jscc_encoder.shortcut.parameters(), *self.synthesis.parameters()):
            parameter.requires_grad_(False)

    def _uses(self, link: Link) -> int:
        uses = link.budget.allowed_uses() - link.budget.side_info_uses(analog.POWER_BITS)
        if uses < 1:
            raise BudgetTooSmall(f"gensc: the budget of {link.budget.allowed_uses()} uses does not hold {analog.POWER_BITS} "
                                 "bits of side information and one symbol; raise --cbr or --kbits")
        return uses

    def encode(self, images: Tensor, link: Link) -> Transmission:
        instruction = self.task_kb_tx.match(link.requirement)
        snr = link.snr_tensor(len(images), images.device)
        padded = analog.pad_to_multiple(images, BLOCK)
        feature = self.source_kb_tx(padded, instruction)
        maps = self.jscc_encoder(padded, feature, self.jscc_encoder.gain(instruction, snr))
        symbols, power = analog.unit_power(analog.to_symbols(maps, self._uses(link)))
        return Transmission(symbols, analog.power_to_bits(power))

    def _receive(self, received: Received, link: Link) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Symbol maps, noise variance per real, noise-to-signal ratio (B,), and the picture's power (B,)."""
        height, width = analog.padded_size(link.height, link.width, BLOCK)
        shape = (self.config.channels, height // BLOCK, width // BLOCK)
        symbols, variance = received.equalised()
        maps = analog.to_features(symbols, *shape)
        noise = analog.spread_variance(variance, *shape)
        # Of the mean gain, not the mean of 1/|h|^2: under fast fading that mean has no limit, one deep fade decides it.
        ratio = 10 ** (-analog.receiver_snr_db(received) / 10)
        return maps, noise, ratio, analog.bits_to_power(received.side_info)

    def _linear(self, maps: Tensor, noise: Tensor, power: Tensor, gain: Tensor) -> Tensor:
        """LMMSE estimate of the shortcut's coefficients, and from them the picture, (B, 3, 16h, 16w)."""
        amplitude = (gain / power.sqrt()[:, None])[:, :, None, None]
        prior = self.log_prior.float().exp()[:, None, None]
        with torch.autocast(maps.device.type, enabled=False):
            return self.synthesis(lmmse(maps, amplitude, prior, noise))

    def _conditioning(self, ratio: Tensor, power: Tensor) -> Tensor:
        if not self.config.time_tied_to_noise:
            ratio = torch.full_like(ratio, REFERENCE_SIGMA**2)
        return self.time(diffusion_time(ratio.sqrt())) + self.power(torch.tanh(power.log() / 3)[:, None])

    def _reconstruct(self, received: Received, link: Link, steps: int) -> tuple[Tensor, Tensor]:
        """Picture (B, 3, 16h, 16w), not clamped, and the clean symbols, per real of variance 1/2."""
        instruction = self.task_kb_rx.match(link.requirement)
        maps, noise, ratio, power = self._receive(received, link)
        gain = self.jscc_encoder.gain(instruction, link.snr_tensor(len(maps), maps.device))
        time_start = diffusion_time(ratio.sqrt())
        for step in range(steps):
            linear = self._linear(maps, noise, power, gain)
            time = self._conditioning(ratio, power)
            scaled = maps * math.sqrt(2) / (1 + 2 * noise)
            feature = None if self.source_kb_rx is None else self.source_kb_rx(scaled, time, instruction)
            picture, correction = self.reconstruction_decoder(scaled, feature, linear, power.sqrt(), time)
            clean = (scaled + correction) / math.sqrt(2)
            if step + 1 < steps:  # DDIM: keep the predicted noise, at the next, smaller sigma
                following = torch.tan(time_start * (1 - (step + 1) / steps) * (math.pi / 2)).square()
                shrink = (following / ratio)[:, None, None, None]
                maps = clean + (maps - clean) * shrink.sqrt()
                noise, ratio = noise * shrink, following
        return picture, clean

    def decode(self, received: Received, link: Link) -> Decoded:
        instruction = self.task_kb_rx.match(link.requirement)
        if instruction == "reconstruction":
            picture, _ = self._reconstruct(received, link, self.config.refinement_steps)
            picture = picture[..., : link.height, : link.width]
            return Decoded(picture if self.training else picture.clamp(0, 1))
        maps, noise, ratio, power = self._receive(received, link)
        scaled = maps * math.sqrt(2) / (1 + 2 * noise)
        time = self._conditioning(ratio, power)
        feature = None if self.source_kb_rx is None else self.source_kb_rx(scaled, time, instruction)
        size = (maps.shape[-2] * BLOCK, maps.shape[-1] * BLOCK)
        logits = self.segmentation_decoder(scaled, feature, time, size)
        return Decoded(logits[..., : link.height, : link.width])

    def training_step(self, images: Tensor, target: Tensor, link: Link, channel: ChannelFunction) -> dict[str, Tensor]:
        """Eq. 5 with the error of the predicted clean symbols beside it (the diffusion's own target), or Eq. 6."""
        sent = self.encode(images, link)
        received = channel(sent, link)
        if link.task == "segmentation":
            return {"cross_entropy": pixel_cross_entropy(self.decode(received, link).output, target)}
        picture, clean = self._reconstruct(received, link, steps=1)
        wanted = analog.to_features(sent.symbols.detach(), *clean.shape[1:])
        return {
            "mse": F.mse_loss(picture[..., : link.height, : link.width], target),
            "latent": self.config.latent_loss * F.mse_loss(clean, wanted),
        }
