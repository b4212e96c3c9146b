"""The number of channel uses that a word of side information takes. `Budget` charges it by this rule.

The harness sends the word over the same channel as the symbols, with a code of exactly this length
(`bench.measure.control_channel`). A system that asks for too short a word loses it. The rule is a closed form, so both
ends, the audit and the channel can compute it without the code itself.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

#: Words of at most this many bits are sent with the small block code of 5G (TS 38.212, 5.3.3.3) and decoded by maximum
#: likelihood. Longer words are sent with a CRC and the LDPC code of 5G.
SHORT_WORD = 11
CHARGED_CRC_BITS = 24  # of a longer word, by this rule; `baselines.digital.nr_code` has the link's own
#: Share of words that may be lost at the SNR that they are coded for.
WORD_ERROR = 1e-5
#: LDPC codes need this much more SNR, in dB, than the normal approximation says. The gap grows with the constellation,
#: because bit-interleaved QAM loses part of the capacity. Measured in tests/bench/measure/test_control_channel.py.
LDPC_GAP_DB, LDPC_GAP_SLOPE = 1.5, 0.07
LEAST_SNR_DB, LARGEST_SNR_DB = -30.0, 60.0
MOST_BITS_PER_USE = 7.0  # 256QAM at rate 7/8


@lru_cache(maxsize=1024)
def control_uses(bits: int, snr_db: float) -> int:
    """Complex uses of a word of `bits` bits that is lost about once in 100,000 times on AWGN at `snr_db` (Es/N0 in dB).

    The length is the normal approximation for the best code on the complex AWGN channel (Polyanskiy, Poor and Verdu,
    2010, Eq. 296). A short word takes at least one use per bit. A long word takes at least the uses that the largest
    constellation needs. An SNR below -30 dB counts as -30 dB, and one above 60 dB as 60 dB.
    """
    if bits == 0:
        return 0
    snr_db = min(max(snr_db, LEAST_SNR_DB), LARGEST_SNR_DB)
    information, least = bits, bits
    if bits > SHORT_WORD:
        information = bits + CHARGED_CRC_BITS
        least = math.ceil(information / MOST_BITS_PER_USE)
        snr_db -= LDPC_GAP_DB + LDPC_GAP_SLOPE * max(snr_db, 0.0)
    low, high = 0, 1
    while _bits_in(high, snr_db) < information:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _bits_in(middle, snr_db) >= information else (middle, high)
    return max(high, least)


def _bits_in(uses: int, snr_db: float) -> float:
    """Bits that the best code of `uses` complex uses carries with a word error rate of `WORD_ERROR`."""
    snr = 10 ** (snr_db / 10)
    capacity = math.log2(1 + snr)
    dispersion = snr * (snr + 2) / (snr + 1) ** 2 * math.log2(math.e) ** 2
    return uses * capacity + math.sqrt(uses * dispersion) * NormalDist().inv_cdf(WORD_ERROR) + math.log2(uses) / 2
