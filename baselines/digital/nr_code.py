"""The LDPC codes and the CRC of 5G NR (TS 38.212), as the link `nr` uses them.

`baselines.digital.nr` encodes with it, `baselines.digital.layered` decodes what it makes. Code words are Sionna's
(`LDPC5GEncoder`, `CRCEncoder`), bit for bit, which the tests check; the tables of the base graphs are its files. Its
program is not used, because an import of `sionna.phy` takes four seconds of CPU (matplotlib, torch's compiler).
"""

from __future__ import annotations

import csv
import importlib.util
from functools import cache
from pathlib import Path

import numpy as np

from systems.errors import missing_package

CRC_BITS = 24
_CRC24B = 0b1_1000_0000_0000_0000_0110_0011  # x^24 + x^23 + x^6 + x^5 + x + 1 (5.1)
_LARGEST_LIFTING = 384
#: Columns of information bits, and of all bits, in the base graphs (5.3.2).
_COLUMNS = {"bg1": (22, 68), "bg2": (10, 52)}
_CORE = 4  # rows whose parity bits hang together; each further row has one parity bit of its own
#: The part of the lifting size that is no power of two, in the order of the tables' sets.
_ODD_PARTS = (2, 3, 5, 7, 9, 11, 13, 15)


class NrCode:
    """The code with `k` information bits and `n` sent bits, redundancy version 0: encoder, rate matching, interleaver.

    bits_per_use: bits of a constellation point, for the interleaver (5.4.2.2); None: no interleaver.
    base_graph: "bg1" or "bg2"; None: TS 38.212 chooses (7.2.2).
    base: int64 (rows, columns), the cyclic shift of each z x z block of the parity-check matrix, or -1 for no block.
    z: the lifting size. k_ldpc: bits before filler bits are taken out. n_ldpc: bits before rate matching.
    Raises ValueError if no code of the base graph has this size, MissingDependency without Sionna's tables.
    """

    def __init__(self, k: int, n: int, bits_per_use: int | None = None, base_graph: str | None = None):
        self.k, self.n, self.bits_per_use = k, n, bits_per_use
        self.base_graph = base_graph = base_graph or _chosen(k, n)
        systematic, columns = _COLUMNS[base_graph]
        self.z, lifting_set = _lifting(k, base_graph)
        self.k_ldpc, self.n_ldpc = systematic * self.z, columns * self.z
        most = (columns - systematic - 2) * self.z + k  # all bits but the filler bits and the first two columns
        if not (k <= self.k_ldpc and 2 * self.z < k < n <= most):
            raise ValueError(f"no code of {base_graph} has {k} information bits and {n} sent bits")
        if bits_per_use is not None and n % bits_per_use:
            raise ValueError(f"{n} bits are no whole number of points of {bits_per_use} bits")
        table = _base_graph(base_graph, lifting_set)
        self.base = np.where(table >= 0, table % self.z, -1)

    def encode(self, information: np.ndarray) -> np.ndarray:
        """Bits uint8 (b, k) -> sent bits uint8 (b, n), rate-matched and interleaved. Raises ValueError for another
        shape.
        """
        if information.ndim != 2 or information.shape[1] != self.k:
            raise ValueError(f"the information bits have shape {information.shape}, not (blocks, {self.k})")
        systematic, z, count = self.k_ldpc // self.z, self.z, len(information)
        sent = -(-(self.n - self.k + 2 * z) // z)  # columns of parity bits of which a bit is sent
        word = np.zeros((count, systematic + max(sent, _CORE), z), np.uint8)
        word.reshape(count, -1)[:, : self.k] = information
        twice = np.concatenate([word, word], axis=2)  # so that a cyclic shift is a slice

        def checks(row: int, end: int) -> np.ndarray:
            """The sum over the row's blocks in the columns before `end`, uint8 (b, z)."""
            total = np.zeros((count, z), np.uint8)
            for column in np.flatnonzero(self.base[row, :end] >= 0):
                shift = self.base[row, column]
                total ^= twice[:, column, shift : shift + z]
            return total

        def keep(index: int, bits: np.ndarray) -> None:
            word[:, systematic + index] = bits
            twice[:, systematic + index] = np.concatenate([bits, bits], axis=1)

        # All four core rows together leave only the block of the first parity column that stands in one row alone.
        first, second, third, fourth = (checks(row, systematic) for row in range(_CORE))
        alone = self.base[1 if self.base_graph == "bg1" else 2, systematic]
        keep(0, np.roll(first ^ second ^ third ^ fourth, alone, axis=1))
        outer = twice[:, systematic, self.base[0, systematic] :][:, :z]
        keep(1, first ^ outer)
        keep(3, fourth ^ outer)
        keep(2, third ^ word[:, systematic + 3] if self.base_graph == "bg1" else second ^ word[:, systematic + 1])
        for row in range(_CORE, sent):
            keep(row, checks(row, systematic + _CORE))
        flat = word.reshape(count, -1)
        out = np.concatenate([flat[:, 2 * z : self.k], flat[:, self.k_ldpc :]], axis=1)[:, : self.n]
        return self.interleaved(out)

    def interleaved(self, values: np.ndarray) -> np.ndarray:
        """Values (..., n) in the order of the code -> in the order in which they are sent."""
        if self.bits_per_use is None:
            return values
        parts = values.reshape(*values.shape[:-1], self.bits_per_use, -1)
        return parts.swapaxes(-1, -2).reshape(values.shape)


def crc24b(bits: np.ndarray) -> np.ndarray:
    """The CRC24B of each row: bits uint8 (b, k) -> uint8 (b, 24), the highest power first."""
    summed = np.bitwise_xor.reduce(np.where(bits != 0, _remainders(bits.shape[1]), np.uint32(0)), axis=1)
    return (summed[:, None] >> np.arange(CRC_BITS - 1, -1, -1, dtype=np.uint32) & 1).astype(np.uint8)


@cache
def _remainders(k: int) -> np.ndarray:
    """The CRC of each row with a single one, uint32 (k,), from its first position to its last."""
    found, value = [], 1 << CRC_BITS - 1
    for _ in range(k):
        value <<= 1
        if value >> CRC_BITS:
            value ^= _CRC24B
        found.append(value)
    return np.array(found[::-1], np.uint32)


def _chosen(k: int, n: int) -> str:
    """The base graph that 7.2.2 chooses."""
    return "bg2" if k <= 292 or (k <= 3824 and k / n <= 0.67) or k / n <= 0.25 else "bg1"


def _lifting(k: int, base_graph: str) -> tuple[int, int]:
    """The smallest lifting size for `k` bits (5.2.2), and the number of its set in the tables."""
    used = 22 if base_graph == "bg1" else 10 if k > 640 else 9 if k > 560 else 8 if k > 192 else 6
    sizes = {
        odd * 2**power: index
        for index, odd in enumerate(_ODD_PARTS)
        for power in range(8)
        if odd * 2**power <= (256 if odd == 2 else _LARGEST_LIFTING)
    }
    fitting = [size for size in sizes if used * size >= k]
    if not fitting:
        raise ValueError(f"{k} information bits are too many for {base_graph}")
    return min(fitting), sizes[min(fitting)]


@cache
def _base_graph(name: str, lifting_set: int) -> np.ndarray:
    """Shifts of a base graph before lifting, int64 (rows, columns), -1 for no block: tables 5.3.2-2 and 5.3.2-3."""
    found = importlib.util.find_spec("sionna")
    if found is None or not found.submodule_search_locations:
        raise missing_package("--link nr", "sionna-no-rt")
    path = Path(found.submodule_search_locations[0]) / "phy" / "fec" / "ldpc" / "codes" / f"5G_{name}.csv"
    systematic, columns = _COLUMNS[name]
    base = np.full((columns - systematic, columns), -1)
    row = 0
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for line in list(csv.reader(file, delimiter=";"))[2:]:
                row = int(line[0]) if line[0] else row  # it stands in the first line of a row alone
                base[row, int(line[1])] = int(line[2 + lifting_set])
    except (OSError, ValueError, IndexError) as error:
        why = f"{path.name}: {error}"
        raise missing_package("--link nr", "sionna-no-rt", why, options="--force-reinstall") from None
    return base
