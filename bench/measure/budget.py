"""What one picture may spend: here the rule of a figure becomes a `Budget`. Plans and measurements call it. It needs no
torch.
"""

from __future__ import annotations

from bench.measure.channel import CHANNELS
from systems.interface import Budget


def budget_of(
    channel: str, height: int, width: int, *, cbr: float | None = None, bits: int | None = None, uses: int | None = None
) -> Budget:
    """The budget of a picture of height x width pixels, from the one that is given: a CBR, coded bits, or complex uses.

    With `bits` all systems get the same number of coded bits, so a larger constellation gets fewer uses. With `uses`
    all get the same number of uses. Control words are coded for the SNR in the channel's record. Raises UnknownName for
    a channel, ValueError unless exactly one is given.
    """
    return Budget.by_rule(cbr, bits, height, width, uses=uses, control_snr_db=CHANNELS[channel].control_snr_db)
