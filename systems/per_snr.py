"""One checkpoint per SNR: several published models, each trained for one SNR, serve as one system over a whole sweep.

`systems.registry.create` makes it where a checkpoint names several files (`systems.checkpoint_option`): on the command
line, `--checkpoint deepjscc@1=FILE,deepjscc@7=FILE`. Both ends know the SNR of the link, so both use the checkpoint
whose SNR is nearest to it. If two are equally near, both use the one for the lower SNR.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from systems.interface import Decoded, Link, Received, System, Transmission


class PerSNR(System):
    """Several networks of one system. Each serves the SNRs that are nearest to its own.

    networks: SNR in dB -> system.
    """

    learned = True
    encoder_sees_snr = True
    joins_snr = True

    def __init__(self, name: str, networks: dict[float, System]):
        super().__init__(name)
        self.networks = dict(sorted(networks.items()))
        some = next(iter(self.networks.values()))
        self.tasks, self.bits_per_use = some.tasks, some.bits_per_use
        self.label, self.colour = some.label, some.colour
        self.opens_files = any(system.opens_files for system in networks.values())
        self.variant = "+".join(f"{system.variant}@{snr:g}" for snr, system in self.networks.items())

    def nearest(self, snr_db: float) -> float:
        """SNR in dB of the checkpoint that serves `snr_db`."""
        return min(self.networks, key=lambda own: abs(own - snr_db))

    def _groups(self, link: Link, batch: int) -> dict[float, list[int]]:
        """Rows of a batch by the SNR of their checkpoint."""
        groups: dict[float, list[int]] = {}
        for row, snr in enumerate(link.snr_tensor(batch).tolist()):
            groups.setdefault(self.nearest(snr), []).append(row)
        return groups

    def prepare(self, images: Tensor, link: Link) -> Callable[[Link], Transmission]:
        """See `System.prepare`. images: float32 (B, 3, H, W) in [0, 1].

        Each checkpoint prepares its pictures once, when the first operating point needs it.
        """
        ready: dict[tuple[float, tuple[int, ...]], Callable[[Link], Transmission]] = {}

        def send(at: Link) -> Transmission:
            snrs = at.snr_tensor(len(images))
            sent: list[Transmission | None] = [None] * len(images)
            for own, rows in self._groups(at, len(images)).items():
                key = (own, tuple(rows))
                if key not in ready:
                    ready[key] = self.networks[own].prepare(images[rows], link)
                part = ready[key](at.at(snr_db=snrs[rows]))
                bits = part.side_info
                for place, row in enumerate(rows):
                    one = slice(place, place + 1)
                    sent[row] = Transmission(part.symbols[one], None if bits is None else bits[one])
            whole = [one for one in sent if one is not None]
            side_info = [one.side_info for one in whole if one.side_info is not None]
            return Transmission(torch.cat([one.symbols for one in whole]), torch.cat(side_info))

        return send

    def encode(self, images: Tensor, link: Link) -> Transmission:
        """See `System.encode`. images: float32 (B, 3, H, W) in [0, 1]."""
        return self.prepare(images, link)(link)

    def decode(self, received: Received, link: Link) -> Decoded:
        """See `System.decode`. Symbols (B, n) -> pictures (B, 3, H, W) or logits (B, 21, H, W)."""
        batch = len(received.symbols)
        snrs, rows_of = link.snr_tensor(batch), self._groups(link, batch)
        outputs: list[Tensor | None] = [None] * batch
        for own, rows in rows_of.items():
            part = Received(
                received.symbols[rows], received.csi[rows], received.noise_var[rows], received.side_info[rows]
            )
            output = self.networks[own].decode(part, link.at(snr_db=snrs[rows])).output
            for place, row in enumerate(rows):
                outputs[row] = output[place]
        return Decoded(torch.stack([output for output in outputs if output is not None]))

    def describe(self) -> dict:
        """Facts of all checkpoints: the parameters of all networks, the least that one of them has seen, and whether
        one is undertrained; one sha256 over the checksums of all files, and the checksum at each SNR. Other facts are
        those of the first.
        """
        facts = [system.describe() for system in self.networks.values()]
        digests = [str(fact.get("sha256")) for fact in facts]
        data = {f"{snr:g} dB": fact.get("data") for snr, fact in zip(self.networks, facts, strict=True)}
        weak = (fact.get("undertrained") is True or str(fact.get("variant")).endswith("-untrained") for fact in facts)
        return {
            **facts[0],
            "variant": self.variant,
            "parameters": sum(fact.get("parameters") or 0 for fact in facts),
            "images_seen": _least([fact.get("images_seen") for fact in facts]),
            "undertrained": any(weak),
            "data": facts[0].get("data") if all(own == facts[0].get("data") for own in data.values()) else data,
            "sha256": hashlib.sha256("".join(digests).encode()).hexdigest(),
            "per_snr": {f"{snr:g}": digest for snr, digest in zip(self.networks, digests)},
        }

    def to(self, device: torch.device | str) -> System:
        """Move all networks to a device and return this system."""
        for system in self.networks.values():
            system.to(device)
        return self


def _least(seen: list) -> Any:
    """The least of the numbers of pictures that networks have seen, or of each task, of those that tell it; else None.

    A network that tells none does not hide the others.
    """
    tasks = [one for one in seen if isinstance(one, dict)]
    if tasks:
        names = dict.fromkeys(name for one in tasks for name in one)
        return {name: _least([one.get(name, 0) for one in tasks]) for name in names}
    return min((one for one in seen if isinstance(one, int | float)), default=None)
