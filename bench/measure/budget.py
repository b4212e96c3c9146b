"""The budget of a picture: from the rule of a figure to a `Budget`, and to words.

Plans and measurements call `budget_of`; tables and reports call `budget_text`. It needs no torch.
"""

from __future__ import annotations

import math
from fractions import Fraction

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
    control_snr_db = CHANNELS[channel].control_snr_db
    if [cbr, bits, uses].count(None) != 2:
        raise ValueError(f"exactly one of cbr, bits and uses must be given; they are {cbr}, {bits} and {uses}")
    if cbr is not None:
        return Budget.from_cbr(cbr, height, width, control_snr_db=control_snr_db)
    return Budget(uses=uses, bits=bits, control_snr_db=control_snr_db)


def budget_text(cbr: float | None, bits: float | None, uses: float | None = None) -> str:
    """The rule of a budget in words, such as "CBR 1/16", "20 Kbits" or "5000 uses". Exactly one is given."""
    if uses is not None:
        return f"{uses:.0f} uses"
    if cbr is None:
        return f"{(bits or 0) / 1000:g} Kbits"
    ratio = Fraction(cbr).limit_denominator(10000)
    return f"CBR {ratio if math.isclose(ratio, cbr, rel_tol=1e-4) else f'{cbr:g}'}"  # 1/99999 would become 0
