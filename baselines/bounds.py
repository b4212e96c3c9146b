"""Bounds: lines that no system can cross. Figures draw them beside the systems. They come from a *genie*.

    <codec>-capacity   the codec without error, at the capacity of the channel that the picture met
    fcn-ceiling        the FCN on the original picture: the best result of the digital chains if nothing were lost

A genie is a receiver with knowledge that no real receiver has; the attribute `genie` marks it. The transmitter sends
Shannon's random code: one Gaussian codeword of unit power per picture, so that the audit of power and uses applies. The
receiver has the list of pictures sent so far, and a matched filter finds which codeword was received.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from baselines.digital import codec as source_codec
from baselines.digital import names
from baselines.digital.fcn_stage import Labels
from baselines.digital.system import from_uint8, grey, to_pictures
from systems.errors import BudgetTooSmall
from systems.interface import Decoded, Link, Received, System, Transmission
from systems.layers.power import unit_power


class Genie(System):
    """The random code, and the list of pictures sent that the receiver may read. Subclasses deliver the result."""

    genie = True
    #: The genie's list, by (height, width, uses) and codeword seed. Shared by all instances of a process.
    _sent: OrderedDict[tuple, _Sent] = OrderedDict()
    _sent_kept = 256

    def encode(self, images: Tensor, link: Link) -> Transmission:
        """One Gaussian codeword per picture (B, 3, H, W), over all uses of the budget: symbols (B, uses).

        Raises BudgetTooSmall if the budget has no channel use.
        """
        uses = link.budget.allowed_uses(self.bits_per_use)
        if uses < 1:
            raise BudgetTooSmall(f"{self.name}: the budget grants no channel use; raise --cbr or --kbits")
        rows = []
        for image in to_pictures(images):
            key = (link.height, link.width, uses, hashlib.sha256(np.ascontiguousarray(image)).hexdigest())
            if key not in self._sent:
                self._sent[key] = _Sent(image, _codeword(key[3], uses))
            self._sent.move_to_end(key)
            rows.append(self._sent[key].codeword)
        while len(self._sent) > max(self._sent_kept, len(images)):
            self._sent.popitem(last=False)
        report = {"mcs": [self.variant] * len(images), "header_bits": [0] * len(images)}
        return Transmission(torch.stack(rows).to(images.device), report=report)

    def _lent(self, received: Received, link: Link) -> list[np.ndarray]:
        """The pictures, uint8 (H, W, 3), whose codewords were received."""
        symbols, csi = received.symbols.cpu(), received.csi.cpu()
        kind = (link.height, link.width, symbols.shape[1])
        sent = [entry for key, entry in self._sent.items() if key[:3] == kind]
        if not sent:
            raise RuntimeError(
                f"{self.name}: no picture of {link.height}x{link.width} pixels and {symbols.shape[1]} symbols was "
                "encoded in this process; encode and decode in one process"
            )
        codewords = torch.stack([entry.codeword for entry in sent])
        matched = symbols * csi.conj()
        return [sent[int((codewords.conj() @ row).real.argmax())].image for row in matched]


class CapacityBound(Genie):
    """`<codec>-capacity`: the codec without error at the capacity of the channel. No channel code can cross this line.

    The payload is the sum over the uses of log2(1 + |h|^2 SNR) bits, with the gains that the picture met. Therefore the
    bound also holds for each picture on fading channels, even against a transmitter that knows the gains (at constant
    power). No header, CRC or padding is charged.
    """

    tasks = ("reconstruction",)
    variant = "capacity"

    def __init__(self, name: str):
        self.name, self.codec = name, names.BOUND.parse(name).codec

    def decode(self, received: Received, link: Link) -> Decoded:
        """Pictures float32 (B, 3, H, W) in the quality that the capacity allows. Grey if even the smallest file does
        not fit.
        """
        csi, noise = received.csi.cpu(), received.noise_var.cpu()
        columns = ("status", "stop_reason", "payload_bits", "source_scale", "source_chroma", "quality")
        outputs, report = [], {column: [] for column in columns}
        for row, image in enumerate(self._lent(received, link)):
            gains = csi[row].abs().double().square().expand(received.symbols.shape[1])
            bits = torch.log2(1 + gains / noise[row].double()).sum().item()
            try:
                coded = source_codec.encode_under(image, int(bits // 8), self.codec)
            except BudgetTooSmall:
                outputs.append(grey(link))
                facts = ("outage", "capacity below the smallest file", None, None, None, None)
            else:
                outputs.append(from_uint8(source_codec.decode(coded.payload, self.codec, link.height, link.width)))
                facts = ("ok", "", 8 * len(coded.payload), coded.scale, coded.chroma, coded.quality)
            for name, value in zip(report, facts, strict=True):
                report[name].append(value)
        return Decoded(torch.stack(outputs).to(received.symbols.device), report)

    def describe(self) -> dict:
        """See `System.describe`."""
        return super().describe() | {
            "codec": self.codec,
            "genie": "error-free at the capacity of the channel met; the receiver is lent the list of pictures sent",
        }


class FCNCeiling(Labels, Genie):
    """`fcn-ceiling`: the labels that the FCN of the digital chains gives to the original picture. They are the same at
    every SNR.

    options: those of the FCN.
    """

    options = ("size", "checkpoint", "precision")

    def __init__(self, name: str, **options: str):
        self.name = name
        self._take_fcn(**options)
        self.variant = self.fcn.variant

    def decode(self, received: Received, link: Link) -> Decoded:
        """Class logits float32 (B, 21, H, W)."""
        logits = [self._label(from_uint8(image)) for image in self._lent(received, link)]
        return Decoded(torch.stack(logits).to(received.symbols.device))

    def describe(self) -> dict:
        """See `System.describe`."""
        return self.fcn.describe() | {
            "system": self.name,
            "genie": "the FCN labels the original; the receiver is lent the list of pictures sent",
        }


@dataclass
class _Sent:
    """A picture uint8 (H, W, 3) and its codeword complex64 (uses,)."""

    image: np.ndarray
    codeword: Tensor


def _codeword(digest: str, uses: int) -> Tensor:
    normal = np.random.Generator(np.random.PCG64(int(digest, 16))).standard_normal((uses, 2))
    return unit_power(torch.view_as_complex(torch.from_numpy(normal).float())[None])[0][0]
