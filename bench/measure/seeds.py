"""The seed of every random draw of a measurement. It depends on what is measured, never on the
system that is measured.
"""

from __future__ import annotations

import hashlib
import json

NOISE_ID = "noise id"


def draw_seed(
    base_seed: int, dataset: str, image_id: str, channel: str, snr_db: float, rep: int, stream: str, salt: str = ""
) -> int:
    """The first 8 bytes of a sha256 of the draw's name, as an unsigned integer.

    The system, the batch, the order and the number of workers are left out on purpose, so all systems meet the same
    noise, and any split of the work gives the same rows.
    stream: what is drawn ("channel", "decoder", ...). That of NOISE_ID names the noise in tables: they are there before
    a run ends, and others may read them, so they must not hold the seed of the noise itself.
    salt: a secret of the run. Without it, a seed would follow from public names alone, and a receiver could compute the
    noise that it is sent. "": none, as in training and in runs from before there were salts.
    """
    # JSON quotes strings, so different names never give the same text (as "a|b", "c" and "a", "b|c" would with bars).
    parts = [int(base_seed), dataset, image_id, channel, canonical_number(snr_db), int(rep), stream]
    parts += [salt] if salt else []
    text = json.dumps(parts, ensure_ascii=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode("ascii")).digest()[:8], "big")


def canonical_number(value: float) -> str:
    """One text for one number: 10, 10.0 and numpy's 10 give "10"; -0.0 gives "0".

    It is rounded to 1e-6 first. So a value that was computed as start + i * step (0.1 * 3 = 0.30000000000000004) has
    the same seed.
    """
    number = round(float(value), 6) + 0.0  # + 0.0 turns -0.0 into 0.0
    return repr(number).removesuffix(".0")
