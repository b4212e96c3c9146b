"""The frame of a picture: how its channel uses are split into code blocks, padding and CRCs.

The coded modulations call `plan_frame`; `--code-rate` is read by `parse_rate`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from systems.errors import BudgetTooSmall, UserError


def parse_rate(rate: float | str | Fraction) -> Fraction:
    """A code rate as an exact fraction with a small denominator, from '5/6', 0.75, or a decimal within 1e-4 of one
    (0.8333).

    Raises UserError.
    """
    try:
        text = str(rate)
        if len(text) > 40 or re.search(r"[eE][+-]?\d{3}", text):  # 1e99999999 would become a number of 100 MB
            raise ValueError(text)
        given = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise UserError(f"code rate {str(rate)[:40]!r} is not a number; write it as 5/6 or 0.75") from None
    for largest in (12, 100):  # small denominators are better: block lengths are multiples of them
        simple = given.limit_denominator(largest)
        if 0 < simple < 1 and abs(simple - given) <= Fraction(1, 10_000):
            return simple
    raise UserError(f"code rate {rate} is not a fraction between 0 and 1 with a denominator up to 100; try 5/6")


@dataclass(frozen=True)
class Frame:
    """How the uses of one picture are spent. Lengths are in bits, `uses` in complex channel uses.

    There are `blocks` equal code blocks. Each carries `k` information bits, of which `crc_bits` are its CRC, in `n`
    coded bits.
    """

    uses: int
    bits_per_use: int
    blocks: int
    k: int
    n: int
    crc_bits: int

    @property
    def payload_bits(self) -> int:
        """Bits for the file and its header."""
        return self.blocks * (self.k - self.crc_bits)

    @property
    def coded_bits(self) -> int:
        """Bits that the code sends over the channel."""
        return self.blocks * self.n

    @property
    def uses_per_block(self) -> int:
        """Complex uses of one block."""
        return self.n // self.bits_per_use

    @property
    def padding_uses(self) -> int:
        """Uses that are left after all blocks. They are sent as padding, and count."""
        return self.uses - self.blocks * self.uses_per_block


def plan_frame(
    uses: int, order: int, rate: Fraction, *, crc_bits: int, max_k: int, fixed_n: int | None = None, name: str = "link"
) -> Frame:
    """Split `uses` uses into the fewest equal blocks of at most `max_k` information bits, at exactly the code rate
    `rate`.

    With `fixed_n` the length of a block is given, and there are as many blocks as fit. name: of the link, for messages.
    Raises BudgetTooSmall.
    """
    bits_per_use = order.bit_length() - 1
    if fixed_n is None:
        blocks = max(1, -(-int(uses * bits_per_use * rate) // max_k))
        # n R must be whole, so that the code rate is exact
        step = rate.denominator // np.gcd(rate.denominator, bits_per_use)
        n = int(uses // blocks // step * step) * bits_per_use
    else:
        n = fixed_n
        blocks = uses * bits_per_use // n
    k = int(n * rate)
    if blocks == 0 or k < crc_bits + 8:
        raise BudgetTooSmall(
            f"{name}: {uses} channel uses of {order}QAM at code rate {rate} hold no code block "
            f"({crc_bits} CRC bits and at least one byte); give a larger CBR or bit budget"
        )
    return Frame(uses, bits_per_use, blocks, k, n, crc_bits)
