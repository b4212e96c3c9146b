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

from systems.interface import Decoded, Link, Received, System, Transmission, joined_reports, joined_transmissions

NOT_KNOWN = "not known"  # in place of what a checkpoint does not tell
SEVERAL = "several"  # the size, if networks of one system have several
#: Facts of the checkpoints that `describe` joins.
_OF_FILES = ("images_seen", "data", "knowledge", "licence")


class PerSNR(System):
    """Several networks of one system. Each serves the SNRs that are nearest to its own.

    networks: SNR in dB -> system.
    """

    learned = True
    encoder_sees_snr = True

    def __init__(self, name: str, networks: dict[float, System]):
        super().__init__(name)
        self.networks = dict(sorted(networks.items()))
        some = next(iter(self.networks.values()))
        self.tasks, self.bits_per_use = some.tasks, some.bits_per_use
        self.label, self.colour = some.label, some.colour
        self.joins_snr = all(system.joins_snr for system in networks.values())
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
                    sent[row] = Transmission(
                        part.symbols[one],
                        None if bits is None else bits[one],
                        _of_row(part.report, place),
                        part.side_info_snr_db,
                    )
            return joined_transmissions([one for one in sent if one is not None])

        return send

    def encode(self, images: Tensor, link: Link) -> Transmission:
        """See `System.encode`. images: float32 (B, 3, H, W) in [0, 1]."""
        return self.prepare(images, link)(link)

    def decode(self, received: Received, link: Link) -> Decoded:
        """See `System.decode`. Symbols (B, n) -> pictures (B, 3, H, W) or logits (B, 21, H, W)."""
        batch = len(received.symbols)
        snrs, rows_of = link.snr_tensor(batch), self._groups(link, batch)
        outputs: list[Decoded | None] = [None] * batch
        for own, rows in rows_of.items():
            part = Received(
                received.symbols[rows], received.csi[rows], received.noise_var[rows], received.side_info[rows]
            )
            decoded = self.networks[own].decode(part, link.at(snr_db=snrs[rows]))
            for place, row in enumerate(rows):
                outputs[row] = Decoded(decoded.output[place : place + 1], _of_row(decoded.report, place))
        found = [one for one in outputs if one is not None]
        return Decoded(torch.cat([one.output for one in found]), joined_reports([one.report for one in found]))

    def describe(self) -> dict:
        """Facts of all checkpoints: the parameters of all networks, the least that one of them has seen, and whether
        one is undertrained; one sha256 over the checksums of all files, and the checksum at each SNR.

        What one file does not tell is not told for the system: `images_seen` is then absent, and data, knowledge and
        licence say NOT_KNOWN beside what the others tell. `seen_per_snr` keeps the counts of those that tell them. Of
        other facts, those stand that are the same for all.
        """
        facts = [system.describe() for system in self.networks.values()]
        digests = [str(fact.get("sha256")) for fact in facts]
        seen = {f"{snr:g}": fact.get("images_seen") for snr, fact in zip(self.networks, facts, strict=True)}
        least = _least([*seen.values()])
        weak = (fact.get("undertrained") is True or str(fact.get("variant")).endswith("-untrained") for fact in facts)
        return {
            **{key: value for key, value in facts[0].items() if key not in _OF_FILES and _same(facts, key)},
            "variant": self.variant,
            "parameters": sum(fact.get("parameters") or 0 for fact in facts),
            **({} if least is None else {"images_seen": least}),
            "seen_per_snr": seen,
            "undertrained": any(weak),
            "data": self._at_each([fact.get("data") or NOT_KNOWN for fact in facts]),
            **self._sizes(facts),
            **{key: _union([fact.get(key) for fact in facts]) for key in ("knowledge", "licence")},
            "sha256": hashlib.sha256("".join(digests).encode()).hexdigest(),
            "per_snr": {f"{snr:g}": digest for snr, digest in zip(self.networks, digests)},
        }

    def _at_each(self, told: list) -> Any:
        """What the networks tell: that of all, or for each SNR its own."""
        if all(own == told[0] for own in told):
            return told[0]
        return {f"{snr:g} dB": own for snr, own in zip(self.networks, told, strict=True)}

    def _sizes(self, facts: list[dict]) -> dict:
        """Size and configuration, if the networks tell one. The size is SEVERAL if they are not the same for all."""
        if _same(facts, "size") and _same(facts, "config"):
            return {}
        told = any("size" in fact or "config" in fact for fact in facts)
        return {"size": SEVERAL, "config": self._at_each([fact.get("config") for fact in facts])} if told else {}

    def to(self, device: torch.device | str) -> System:
        """Move all networks to a device and return this system."""
        for system in self.networks.values():
            system.to(device)
        return self


def _of_row(report: dict[str, list], row: int) -> dict[str, list]:
    """The report of one picture of a batch."""
    return {key: values[row : row + 1] for key, values in report.items()}


def _same(facts: list[dict], key: str) -> bool:
    return all(key in fact and fact[key] == facts[0][key] for fact in facts)


def _least(seen: list) -> Any:
    """The least of the numbers of pictures that networks have seen, or of each task. None if one tells none."""
    if all(isinstance(one, dict) and one for one in seen):
        names = dict.fromkeys(name for one in seen for name in one)
        return {name: _least([one.get(name, 0) for one in seen]) for name in names}
    return min(seen) if all(isinstance(one, int | float) for one in seen) else None


def _union(told: list) -> str:
    """What several sidecars tell in parts that "; " joins: each part once. "none" counts only where all say it."""
    parts = dict.fromkeys(part for own in told for part in str(own or NOT_KNOWN).split("; "))
    return "; ".join(part for part in parts if part != "none") or "none"
