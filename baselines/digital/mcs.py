"""The table of modulation and coding schemes (MCS), with measured thresholds. Adaptive transmission chooses from it.

`baselines.digital.system` calls `choose` and `tag`. `python -m baselines.digital.mcs` measures the thresholds again
(minutes) and prints the table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from baselines.digital.names import ORDERS

#: The threshold of a scheme is the lowest Es/N0 of the grid at which all FRAMES frames were decoded without a block
#: error, at this and at the next point of the grid. A frame has 9408 uses (224x224 at CBR 1/16; 1 to 8 code blocks,
#: AWGN, 20 iterations).
GRID_DB = 0.25
FRAMES = 20
USES = 9408

#: A scheme is safe this far above its threshold: other pictures have shorter (weaker) blocks, or more of them.
MARGIN_DB = 0.25

#: Under block fading the transmitter does not know the gain of a picture. It takes a scheme that is safe at the gain
#: that nine pictures in ten reach (the 10 % outage capacity; Tse and Viswanath, Fundamentals of Wireless Communication,
#: 2005, Sec. 5.4.1). Control words are made for the same share of the pictures.
OUTAGE_SHARE = 0.1
FADE_DB = 10 * math.log10(-math.log(1 - OUTAGE_SHARE))

RATES = ("1/3", "2/5", "1/2", "3/5", "2/3", "3/4", "5/6", "8/9")


@dataclass(frozen=True)
class Mcs:
    """One scheme: the constellation's number of points, the code rate, and the lowest Es/N0 in dB at which the NR link
    decoded every frame.
    """

    order: int
    rate: Fraction
    threshold_db: float

    @property
    def bits_per_use(self) -> float:
        """Information bits per complex use, CRCs included."""
        return (self.order.bit_length() - 1) * float(self.rate)

    @property
    def tag(self) -> str:
        """The scheme's value in the column `mcs`, such as '16qam-5/6'."""
        return tag(self.order, self.rate)


def tag(order: int, rate: Fraction) -> str:
    """The value of a scheme in the column `mcs`, such as '16qam-5/6'."""
    return f"{order}qam-{rate}"


THRESHOLDS_DB = {
    "4qam-1/3": -1.00,
    "4qam-2/5": -0.25,
    "4qam-1/2": 1.25,
    "4qam-3/5": 2.50,
    "4qam-2/3": 3.25,
    "4qam-3/4": 4.25,
    "4qam-5/6": 5.25,
    "4qam-8/9": 6.25,
    "16qam-1/3": 3.75,
    "16qam-2/5": 5.00,
    "16qam-1/2": 6.50,
    "16qam-3/5": 8.00,
    "16qam-2/3": 9.00,
    "16qam-3/4": 10.25,
    "16qam-5/6": 11.75,
    "16qam-8/9": 12.75,
    "64qam-1/3": 7.25,
    "64qam-2/5": 8.75,
    "64qam-1/2": 10.75,
    "64qam-3/5": 12.50,
    "64qam-2/3": 13.75,
    "64qam-3/4": 15.50,
    "64qam-5/6": 17.00,
    "64qam-8/9": 18.50,
    "256qam-1/3": 10.00,
    "256qam-2/5": 12.00,
    "256qam-1/2": 14.75,
    "256qam-3/5": 17.00,
    "256qam-2/3": 18.50,
    "256qam-3/4": 20.50,
    "256qam-5/6": 22.50,
    "256qam-8/9": 24.00,
}
TABLE = tuple(Mcs(order, Fraction(rate), THRESHOLDS_DB[f"{order}qam-{rate}"]) for order in ORDERS for rate in RATES)


def choose(snr_db: float, channel: str = "awgn") -> Mcs:
    """Of the schemes that are safe at a mean SNR of `snr_db` on `channel`, the one that carries most bits. If none is
    safe, the most robust one.
    """
    safe = [mcs for mcs in TABLE if safe_from_db(mcs, channel) <= snr_db]
    if not safe:
        return min(TABLE, key=lambda mcs: mcs.threshold_db)
    return max(safe, key=lambda mcs: (mcs.bits_per_use, -mcs.threshold_db))


@cache
def safe_from_db(mcs: Mcs, channel: str = "awgn") -> float:
    """The lowest mean SNR in dB at which a scheme is safe on a channel.

    Under block fading it is safe for nine pictures in ten. Under fast fading a scheme needs the mean SNR at which it
    has the mutual information that it has on AWGN at its threshold. A channel of a third party counts as AWGN.
    """
    threshold = mcs.threshold_db + MARGIN_DB
    if channel == "rayleigh-block":
        return threshold - FADE_DB
    if channel == "rayleigh-fast":
        from baselines.digital.capacity import fading_qam_snr_db

        return fading_qam_snr_db(mcs.order, threshold)
    return threshold


def loses_a_frame(link, snr_db: float, frames: int, seed: int = 0) -> bool:
    """Whether the link loses any of `frames` random payloads on AWGN at `snr_db` dB."""
    import numpy as np
    import torch

    for index in range(frames):
        rng = np.random.Generator(np.random.PCG64([seed, index]))
        payload = rng.integers(0, 2, link.frame.payload_bits, dtype=np.uint8)
        symbols = link.encode(payload)
        variance = 10 ** (-snr_db / 10)
        noise = torch.from_numpy(rng.standard_normal((link.frame.uses, 2)) * np.sqrt(variance / 2))
        received = symbols + torch.view_as_complex(noise).to(torch.complex64)
        delivery = link.decode(received, torch.full((link.frame.uses,), variance))
        if delivery.bits is None or not np.array_equal(delivery.bits, payload):
            return True
    return False


def measure() -> None:
    """Measure and print the threshold of every scheme, from the limit of its constellation upwards."""
    from baselines.digital.capacity import qam_limit_db
    from baselines.digital.nr import NrCodedModulation

    for order in ORDERS:
        for rate in RATES:
            link = NrCodedModulation(USES, order, Fraction(rate))
            snr = math.ceil(qam_limit_db(order, float(Fraction(rate))) / GRID_DB) * GRID_DB
            clean = 0
            while clean < 2:
                clean = 0 if loses_a_frame(link, snr, FRAMES) else clean + 1
                snr += GRID_DB
            print(f'    "{order}qam-{rate}": {snr - 2 * GRID_DB:.2f},', flush=True)


if __name__ == "__main__":
    measure()
