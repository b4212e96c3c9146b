"""The seed of every random draw of a measurement, made from what is measured and never from who measures it."""

from __future__ import annotations

import hashlib
import json


def draw_seed(
    base_seed: int, dataset: str, image_id: str, channel: str, snr_db: float, rep: int, stream: str, salt: str = ""
) -> int:
    """First 8 bytes of the sha256 of the draw's name, as an unsigned integer.

    The system, the batch, the order and the number of workers are left out on purpose: all systems meet the same noise,
    and any split of the work gives the same rows. `stream` tells apart what is drawn ("channel", "sampler", ...).
    `salt` is the run's secret: without it, seeds would be a function of public names, and a receiver could compute the
    noise that it is sent. "": none, as in training and in runs of before there were salts.
    """
    # JSON quotes its strings, so no two different names run together into one text ("a|b", "c" against "a", "b|c").
    parts = [int(base_seed), dataset, image_id, channel, canonical_number(snr_db), int(rep), stream]
    parts += [salt] if salt else []
    text = json.dumps(parts, ensure_ascii=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode("ascii")).digest()[:8], "big")


def canonical_number(value: float) -> str:
    """One text for one number: 10, 10.0 and numpy's 10 give "10"; -0.0 gives "0".

    Rounded to 1e-6 first, so that a value reached by start + i * step (0.1 * 3 = 0.30000000000000004) keeps its seed.
    """
    number = round(float(value), 6) + 0.0  # + 0.0 turns -0.0 into 0.0
    return repr(number).removesuffix(".0")
