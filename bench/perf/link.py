"""`python -m bench perf link`: compares the nr link's decoder with Sionna's, on the same frames.

There are three parts: speed and block errors for two codes; the speed for the code (9126, 8448) with 10 fixed
iterations, a case for which others publish speeds; and how many soft values the decoder's 8 bits clip, by modulation.
`--table` instead compares block errors over lifting sizes and rates, and names the codes where min-sum is worse than
belief propagation (an hour or more).

Speed is in information bits per second: the median over repetitions in which the decoders take turns, once with all
cores that this process may use and once with one. Sionna uses its faster check-node rule ("boxplus") and does all
iterations, in batches that suit it. The layered decoder stops a frame when it has become a word of the code. Block
errors are counted on the same frames until Sionna has enough, then on more frames until the layered decoder has enough
too. Each frame has its own noise, and its word is one of a few random ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from baselines.digital.capacity import shannon_limit_db
from bench.util.progress import Progress

#: (k, n, Es/N0 of QPSK in dB), where about one in a hundred blocks of the layered decoder fails.
POINTS = ((6336, 7603, 5.3), (4224, 8448, 1.2))
ITERATIONS = 20
BATCH = 32
TIMED_FRAMES = 2 * BATCH
ROUNDS = 16  # how often these frames are repeated in one call of the layered decoder, which takes 2 ms for one
WORDS = 64
COLUMNS = (
    "k", "n", "snr_db", "decoder", "threads", "mbit_s", "mbit_s_iqr", "mbit_s_one_thread", "mbit_s_one_thread_iqr",
    "iterations", "frames", "block_errors", "bler", "bler_low", "bler_high", "cpu",
)  # fmt: skip
#: The code and the fixed number of iterations for which publications give speeds of a processor core.
FIXED, FIXED_ITERATIONS = (8448, 9126, 7.0), 10
#: The table's information bits (each has its own lifting size) and rates. Codes that NR does not have are left out.
TABLE_BITS = (88, 176, 352, 640, 1408, 2560, 3840, 5632, 8448)
TABLE_RATES = (1 / 5, 1 / 3, 1 / 2, 2 / 3, 3 / 4, 5 / 6, 8 / 9)
TABLE_FRAMES = 2000
TABLE_COLUMNS = (
    "k", "n", "z", "snr_db", "frames", "bler_layered", "bler_layered_low", "bler_layered_high", "bler_sionna",
    "bler_sionna_low", "bler_sionna_high", "verdict",
)  # fmt: skip
RAIL_FRAMES = 4  # each of RAIL_USES uses
RAIL_USES = 9408

Decode = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    repeats: how often each timing is repeated.
    errors: counting ends when each decoder has this many block errors.
    frames: counting ends at the latest after this many frames. None: no limit.
    """

    repeats: int = 5
    errors: int = 100
    frames: int | None = None


QUICK = Effort(repeats=3, frames=4 * BATCH)


@dataclass
class Count:
    """Block errors of one decoder."""

    frames: int = 0
    errors: int = 0

    def add(self, wrong: np.ndarray) -> None:
        """Add frames. wrong: bool (frames,), whether each was decoded wrongly."""
        self.frames += len(wrong)
        self.errors += int(wrong.sum())

    def rate(self) -> tuple[float, float, float]:
        """The block error rate and its exact 95 % interval (Clopper and Pearson)."""
        from scipy.stats import binomtest

        low, high = binomtest(self.errors, self.frames).proportion_ci(0.95)
        return self.errors / self.frames, float(low), float(high)


@dataclass
class Code:
    """One code with both decoders.

    LLRs are log P(1)/P(0), float32 (frames, n). Bits are uint8 (frames, k).
    """

    k: int
    n: int
    snr_db: float

    def __post_init__(self):
        from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder

        from baselines.digital.layered import LayeredDecoder
        from baselines.digital.nr_code import NrCode

        self.code = NrCode(self.k, self.n)
        self.z = self.code.z
        encoder = LDPC5GEncoder(self.k, self.n, device="cpu")
        flooding = cache(partial(LDPC5GDecoder, encoder, cn_update="boxplus", num_iter=ITERATIONS, device="cpu"))
        self.layered = LayeredDecoder(self.code, ITERATIONS)

        def sionna(llr: np.ndarray) -> np.ndarray:
            parts = [flooding()(part).numpy() for part in torch.from_numpy(llr).split(BATCH)]
            return np.concatenate(parts).astype(np.uint8)

        self.decoders: dict[str, Decode] = {"layered": lambda llr: self.layered(llr).bits, "sionna": sionna}
        bits = torch.randint(0, 2, (WORDS, self.k), generator=torch.Generator().manual_seed(0)).float()
        self._sent, self._words = bits.numpy().astype(np.uint8), 2 * encoder(bits).numpy().astype(np.float32) - 1

    def frames(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Sent bits (count, k) and LLRs (count, n): QPSK, one bit per real dimension, at `snr_db`."""
        which = np.arange(count) % WORDS
        snr = 10 ** (self.snr_db / 10)
        # y = x / sqrt(2) + noise of variance 1 / (2 snr), and its LLR is 4 snr y / sqrt(2)
        llr = np.random.default_rng([seed, self.k, self.n]).standard_normal((count, self.n), dtype=np.float32)
        llr *= np.float32(2 * np.sqrt(snr))
        llr += np.float32(2 * snr) * self._words[which]
        return self._sent[which], llr


def report_link(options: dict[str, Any], say: Callable[[str], None]) -> None:
    """Measure both codes, print, and write `options["csv"]`."""
    from bench.results.csv_tables import table_text
    from bench.util.environment import host_facts, package_version
    from bench.util.files import write_atomic

    effort = QUICK if options["quick"] else Effort()
    host = host_facts()
    versions = ", ".join(f"{name} {package_version(name)}" for name in ("sionna-no-rt", "torch", "numba"))
    say(f"{host['cpu']}, {host['cores']} cores; {versions}; at most {ITERATIONS} iterations")
    rows: list[dict[str, Any]] = []
    for point in POINTS:
        own = measure(Code(*point), effort, host["cores"])
        rows += [row | {"cpu": host["cpu"]} for row in own]
        say("\n" + text_of(own))
    fixed, spread = fixed_rate(effort)
    k, n, _ = FIXED
    say(f"\nk={k}, n={n}, {FIXED_ITERATIONS} iterations always: {fixed:.1f} Mbit/s (IQR {spread:.1f}) with 1 thread")
    say("\nsoft values that the decoder's 8 bits cut off, at the threshold of each scheme of rate 5/6:")
    for order, snr_db, share in rail_shares():
        say(f"  {order:3}QAM at {snr_db:5.2f} dB: {100 * share:.1f} %")
    if options["quick"]:
        say("\n--quick: too few frames for a block error rate")
    if options["csv"]:
        write_atomic(Path(options["csv"]), table_text(COLUMNS, rows).encode())


def report_table(options: dict[str, Any], say: Callable[[str], None]) -> None:
    """Block errors of both decoders over lifting sizes and rates, printed row by row, and
    written to `options["csv"]`.
    """
    from bench.results.csv_tables import table_text
    from bench.util.files import write_atomic

    say(f"at most {ITERATIONS} iterations, QPSK, {TABLE_FRAMES} frames per code")
    rows: list[dict[str, Any]] = []
    for rate in TABLE_RATES:
        for k in TABLE_BITS:
            row = compare_at(k, round(k / rate), TABLE_FRAMES)
            if row is None:
                continue
            rows.append(row)
            say(
                f"  k={row['k']:5} n={row['n']:5} z={row['z']:3} at {row['snr_db']:5.2f} dB: layered "
                f"{row['bler_layered']:.1e}, sionna {row['bler_sionna']:.1e}  {row['verdict']}"
            )
            if options["csv"]:
                write_atomic(Path(options["csv"]), table_text(TABLE_COLUMNS, rows).encode())
    losses = [f"(k={row['k']}, n={row['n']})" for row in rows if row["verdict"] == "loses"]
    say(f"min-sum loses to belief propagation at {len(losses)} of {len(rows)} codes: {', '.join(losses) or 'none'}")


@torch.inference_mode()
def compare_at(k: int, n: int, frames: int) -> dict[str, Any] | None:
    """A row of TABLE_COLUMNS, at the Es/N0 where about one in a hundred blocks of the layered decoder fails. None if NR
    has no such code.

    verdict: "loses" if the 95 % interval of the layered decoder's block error rate lies above that of belief
    propagation, "wins" if it lies below, otherwise "even".
    """
    try:
        code = Code(k, n, 0.0)
    except (ValueError, AssertionError):
        return None
    snr_db = np.ceil(4 * shannon_limit_db(2 * k / n)) / 4
    while True:  # upwards in steps of 0.25 dB, until at most one frame in 50 fails
        code.snr_db = float(snr_db)
        sent, llr = code.frames(200, seed=999)
        if (code.layered(llr).bits != sent).any(axis=1).mean() <= 0.02:
            break
        snr_db += 0.25
    counts = {name: Count() for name in code.decoders}
    for seed in range(1, 1 + -(-frames // BATCH)):
        sent, llr = code.frames(BATCH, seed)
        for name, decode in code.decoders.items():
            counts[name].add((decode(llr) != sent).any(axis=1))
    rates_of = {name: count.rate() for name, count in counts.items()}
    (_, low, high), (_, other_low, other_high) = rates_of["layered"], rates_of["sionna"]
    verdict = "loses" if low > other_high else "wins" if high < other_low else "even"
    values = [value for name in ("layered", "sionna") for value in rates_of[name]]
    row = (k, n, code.z, code.snr_db, counts["layered"].frames, *values, verdict)
    return dict(zip(TABLE_COLUMNS, row, strict=True))


@torch.inference_mode()
def fixed_rate(effort: Effort) -> tuple[float, float]:
    """Information in Mbit/s of one core at FIXED with FIXED_ITERATIONS, all of them done:
    median, interquartile range.
    """
    from baselines.digital.layered import LayeredDecoder

    code = Code(*FIXED)
    decoder = LayeredDecoder(code.code, FIXED_ITERATIONS, early_stop=False)
    _, llr = code.frames(TIMED_FRAMES, seed=0)
    frames, before, found = np.tile(llr, (ROUNDS, 1)), torch.get_num_threads(), []
    try:
        torch.set_num_threads(1)
        for _ in range(1 + effort.repeats):
            start = time.perf_counter()
            decoder(frames)
            found.append(1e-6 * len(frames) * code.k / (time.perf_counter() - start))
    finally:
        torch.set_num_threads(before)
    low, median, high = np.percentile(found[1:], [25, 50, 75])
    return float(median), float(high - low)


def rail_shares() -> list[tuple[int, float, float]]:
    """(points of the constellation, Es/N0 in dB, share of clipped soft values) of each scheme with rate 5/6."""
    from fractions import Fraction

    from baselines.digital import mcs
    from baselines.digital.layered import LARGEST_CHANNEL, STEPS_PER_LLR
    from baselines.digital.nr import NrCodedModulation

    found = []
    for scheme in (row for row in mcs.TABLE if row.rate == Fraction(5, 6)):
        link = NrCodedModulation(RAIL_USES, scheme.order, scheme.rate)
        variance = 10 ** (-scheme.threshold_db / 10)
        cut = []
        for seed in range(RAIL_FRAMES):
            rng = np.random.default_rng([seed, scheme.order])
            sent = link.encode(rng.integers(0, 2, link.frame.payload_bits, dtype=np.uint8))
            noise = rng.standard_normal((RAIL_USES, 2)) * np.sqrt(variance / 2)
            received = sent + torch.view_as_complex(torch.from_numpy(noise)).to(torch.complex64)
            llr = link.llr(received, torch.full((RAIL_USES,), variance))
            cut.append((STEPS_PER_LLR * llr.abs() >= LARGEST_CHANNEL).float().mean().item())
        found.append((scheme.order, scheme.threshold_db, float(np.mean(cut))))
    return found


@torch.inference_mode()
def measure(code: Code, effort: Effort, threads: int) -> list[dict[str, Any]]:
    """A row of COLUMNS (without the machine) for each decoder."""
    before = torch.get_num_threads()
    try:
        speeds = {count: rates(code, effort, count) for count in (threads, 1)}
        torch.set_num_threads(threads)
        counts, iterations = count_errors(code, effort)
    finally:
        torch.set_num_threads(before)
    rows = []
    for name in code.decoders:
        bler, low, high = counts[name].rate()
        (fast, fast_iqr), (one, one_iqr) = (speeds[count][name] for count in (threads, 1))
        rows.append({
            "k": code.k, "n": code.n, "snr_db": code.snr_db, "decoder": name, "threads": threads,
            "mbit_s": fast, "mbit_s_iqr": fast_iqr, "mbit_s_one_thread": one, "mbit_s_one_thread_iqr": one_iqr,
            "iterations": iterations[name], "frames": counts[name].frames, "block_errors": counts[name].errors,
            "bler": bler, "bler_low": low, "bler_high": high,
        })  # fmt: skip
    return rows


def rates(code: Code, effort: Effort, threads: int) -> dict[str, tuple[float, float]]:
    """Information in Mbit/s of each decoder: median and interquartile range."""
    torch.set_num_threads(threads)
    _, llr = code.frames(TIMED_FRAMES, seed=0)
    found: dict[str, list[float]] = {name: [] for name in code.decoders}
    for repeat in range(1 + effort.repeats):  # the first repetition compiles and warms up
        for name, decode in code.decoders.items():
            frames = np.tile(llr, (ROUNDS, 1)) if name == "layered" else llr
            start = time.perf_counter()
            decode(frames)
            if repeat:
                found[name].append(1e-6 * len(frames) * code.k / (time.perf_counter() - start))
    quartiles = {name: np.percentile(speeds, [25, 50, 75]) for name, speeds in found.items()}
    return {name: (float(median), float(high - low)) for name, (low, median, high) in quartiles.items()}


def count_errors(code: Code, effort: Effort) -> tuple[dict[str, Count], dict[str, float]]:
    """Block errors of each decoder, and its mean iterations per frame."""
    counts = {name: Count() for name in code.decoders}
    spent = 0
    progress = Progress(f"k={code.k}", len(counts) * effort.errors, "block errors")
    for sent, llr in _batches(code, effort):
        shared = counts["sionna"].errors < effort.errors
        if not shared and counts["layered"].errors >= effort.errors:
            break
        found = code.layered(llr)
        spent += int(found.iterations.sum())
        counts["layered"].add((found.bits != sent).any(axis=1))
        if shared:
            counts["sionna"].add((code.decoders["sionna"](llr) != sent).any(axis=1))
        told = ", ".join(f"{name} {count.errors} in {count.frames} frames" for name, count in counts.items())
        progress.update(sum(min(count.errors, effort.errors) for count in counts.values()), told)
    progress.close()
    return counts, {"layered": spent / counts["layered"].frames, "sionna": float(ITERATIONS)}


def _batches(code: Code, effort: Effort) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    seed = 1
    while effort.frames is None or seed * BATCH <= effort.frames:
        yield code.frames(BATCH, seed)
        seed += 1


def text_of(rows: list[dict[str, Any]]) -> str:
    """Both decoders of one code, as text for the terminal."""
    first, (layered, sionna) = rows[0], sorted(rows, key=lambda row: row["decoder"])
    threads = first["threads"]
    lines = [f"k={first['k']}, n={first['n']} (rate {first['k'] / first['n']:.3f}), QPSK at {first['snr_db']:g} dB"]
    for row in rows:
        lines.append(
            f"  {row['decoder']:8} {row['mbit_s']:9.3f} Mbit/s (IQR {row['mbit_s_iqr']:.3f}) with {threads} threads, "
            f"{row['mbit_s_one_thread']:.3f} ({row['mbit_s_one_thread_iqr']:.3f}) with 1; "
            f"{row['iterations']:.1f} iterations; "
            f"block error rate {row['bler']:.2e} [{row['bler_low']:.2e}, {row['bler_high']:.2e}]: "
            f"{row['block_errors']} of {row['frames']}"
        )
    both, one = (layered[key] / sionna[key] for key in ("mbit_s", "mbit_s_one_thread"))
    lines.append(f"  layered is {both:.0f} times as fast with {threads} threads each, {one:.0f} times with 1")
    return "\n".join(lines)
