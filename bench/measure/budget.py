"""What a picture may spend: the one place where a figure's rule becomes a `Budget`. Needs no torch."""

from __future__ import annotations

from bench.measure.channel import CHANNELS
from systems.interface import Budget


def budget_of(
    channel: str, height: int, width: int, *, cbr: float | None = None, bits: int | None = None, uses: int | None = None
) -> Budget:
    """The budget of a picture of that size, from whichever of a CBR, coded bits and complex uses is given.

    With `bits` the systems are matched by bits, and a larger constellation has fewer uses; with `uses` they are matched
    by uses. Control words are made for the SNR that the channel's record names. Raises UnknownName for a channel.
    """
    return Budget.by_rule(cbr, bits, height, width, uses=uses, control_snr_db=CHANNELS[channel].control_snr_db)
