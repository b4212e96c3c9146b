"""The class of each block as bits, and the choice of classes. `baselines.linear_select` calls it at both ends.

The probability of a class follows from the classes to its left and above it, by tables in the codebook, and from how
often this picture has used the class so far. The blocks are coded row by row. All of this is computed in integers, so
both ends get the same result. An arithmetic coder writes the bits (Witten, Neal and Cleary 1987).

The encoder takes the class with the least cost. The cost is the squared error, the symbols and power
(`allocation.cost_of_square`), and the bits at their price. At a high price it uses few classes, and blocks tend to take
the class of their neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

import numpy as np

from systems.numba_compile import compiled

UNIT = 256  # steps per bit in a table's entry
TOTAL = 1 << 15  # sum of the frequencies of all classes
_LEAST = 12 * UNIT  # the smallest probability in a table is 2^-12
_PATIENCE = 12  # the tables weigh as much as the counts of this many blocks of the picture
_TOP, _HALF, _QUARTER = (1 << 32) - 1, 1 << 31, 1 << 30


@dataclass(frozen=True)
class ContextTables:
    """Probabilities of classes, as negative logarithms in steps of 1/256 bit, for k classes.

    share: int16 (k,), of each class.
    left, above: int16 (k + 1, k), of a class beside another one. The last row is for blocks without a neighbour (the
    picture's border).
    """

    share: np.ndarray
    left: np.ndarray
    above: np.ndarray

    @classmethod
    def fit(cls, maps: list[np.ndarray], classes: int) -> ContextTables:
        """Count the classes of maps, int (rows, columns) each."""
        left, above = (np.full((classes + 1, classes), 0.0) for _ in range(2))
        share = np.zeros(classes)
        for one in maps:
            padded = np.pad(one, ((1, 0), (1, 0)), constant_values=classes)
            np.add.at(left, (padded[1:, :-1].ravel(), one.ravel()), 1)
            np.add.at(above, (padded[:-1, 1:].ravel(), one.ravel()), 1)
            share += np.bincount(one.ravel(), minlength=classes)
        share = (share + 1) / (share + 1).sum()
        tables = [share] + [
            (table + 8 * share) / (table + 8 * share).sum(axis=1, keepdims=True) for table in (left, above)
        ]
        return cls(*(np.minimum(np.round(-UNIT * np.log2(table)), _LEAST).astype(np.int16) for table in tables))

    @classmethod
    def flat(cls, classes: int) -> ContextTables:
        """Tables in which all classes have the same probability everywhere."""
        bits = np.int16(round(UNIT * np.log2(classes)))
        return cls(*(np.full(shape, bits) for shape in (classes, (classes + 1, classes), (classes + 1, classes))))


def _powers() -> np.ndarray:
    """2^(16 - i / UNIT) for i = 0 to UNIT - 1, int64.

    They are computed by integer square roots, because exp() may differ between machines.
    """
    places = 120
    step = (1 << places) // 2  # 2^-1
    for _ in range(UNIT.bit_length() - 1):
        step = isqrt(step << places)  # the square root
    found, value = [], 1 << places
    for _ in range(UNIT):
        found.append(value >> (places - 16))
        value = value * step >> places
    return np.array(found, dtype=np.int64)


_POWERS = _powers()


@compiled
def _frequencies(left, above, used, expected, share, left_table, above_table, powers, out):
    """Write the frequency of each class into `out`, with sum TOTAL. Also add the tables' own probabilities to
    `expected`.
    """
    classes = len(out)
    weight = np.empty(classes, np.int64)
    total = np.int64(0)
    for k in range(classes):
        # P(k | left) P(k | above) / P(k)
        bits = np.int64(left_table[left, k]) + np.int64(above_table[above, k]) - np.int64(share[k])
        bits = min(max(bits, 0), 20 * UNIT)
        weight[k] = (powers[bits % UNIT] << 14) >> (bits // UNIT)
        total += weight[k]
    adapted = np.int64(0)
    for k in range(classes):
        chance = weight[k] * 65536 // total
        # how much more often this picture uses the class than the tables predict
        ratio = ((used[k] * 65536 + _PATIENCE * 2048) * 1024) // (expected[k] + _PATIENCE * 2048)
        ratio = min(max(ratio, 64), 65536)
        expected[k] += chance
        weight[k] = chance * ratio + 1
        adapted += weight[k]
    given = np.int64(0)
    largest = 0
    for k in range(classes):
        out[k] = 1 + weight[k] * (TOTAL - classes) // adapted
        given += out[k]
        if out[k] > out[largest]:
            largest = k
    out[largest] += TOTAL - given


@compiled
def _choose(costs, price, rows, columns, share, left_table, above_table, powers, chosen):
    """Write the classes of least cost, row by row, into `chosen` (rows, columns). Returns the number of bits that they
    take.
    """
    classes = len(share)
    used, expected, frequency = np.zeros(classes, np.int64), np.zeros(classes, np.int64), np.empty(classes, np.int64)
    spent = 0.0
    for row in range(rows):
        for column in range(columns):
            left = chosen[row, column - 1] if column else classes
            above = chosen[row - 1, column] if row else classes
            _frequencies(left, above, used, expected, share, left_table, above_table, powers, frequency)
            best, least, bits = 0, np.inf, 0.0
            for k in range(classes):
                own = np.log2(TOTAL / frequency[k])
                cost = costs[row * columns + column, k] + price * own
                if cost < least:
                    best, least, bits = k, cost, own
            chosen[row, column] = best
            used[best] += 1
            spent += bits
    return spent


@compiled
def _encode(chosen, share, left_table, above_table, powers, out):
    """Write the bits of the map into `out`. Returns their number, or -1 if `out` is too short."""
    rows, columns = chosen.shape
    classes = len(share)
    used, expected, frequency = np.zeros(classes, np.int64), np.zeros(classes, np.int64), np.empty(classes, np.int64)
    low, high, pending, count = np.int64(0), np.int64(_TOP), 0, 0
    for row in range(rows):
        for column in range(columns):
            left = chosen[row, column - 1] if column else classes
            above = chosen[row - 1, column] if row else classes
            _frequencies(left, above, used, expected, share, left_table, above_table, powers, frequency)
            own = chosen[row, column]
            below = np.int64(0)
            for k in range(own):
                below += frequency[k]
            used[own] += 1
            width = high - low + 1
            high = low + width * (below + frequency[own]) // TOTAL - 1
            low = low + width * below // TOTAL
            while True:
                if high < _HALF:
                    bit = 0
                elif low >= _HALF:
                    bit = 1
                    low -= _HALF
                    high -= _HALF
                elif low >= _QUARTER and high < 3 * _QUARTER:
                    pending += 1
                    low = 2 * (low - _QUARTER)
                    high = 2 * (high - _QUARTER) + 1
                    continue
                else:
                    break
                if count + 1 + pending > len(out):
                    return -1
                out[count] = bit
                count += 1
                for _ in range(pending):
                    out[count] = 1 - bit
                    count += 1
                pending = 0
                low, high = 2 * low, 2 * high + 1
    pending += 1
    bit = 0 if low < _QUARTER else 1
    if count + 1 + pending > len(out):
        return -1
    out[count] = bit
    count += 1
    for _ in range(pending):
        out[count] = 1 - bit
        count += 1
    return count


@compiled
def _decode(bits, share, left_table, above_table, powers, chosen):
    rows, columns = chosen.shape
    classes = len(share)
    used, expected, frequency = np.zeros(classes, np.int64), np.zeros(classes, np.int64), np.empty(classes, np.int64)
    low, high, value, at = np.int64(0), np.int64(_TOP), np.int64(0), 0
    for _ in range(32):
        value = 2 * value + (np.int64(bits[at]) if at < len(bits) else 0)
        at += 1
    for row in range(rows):
        for column in range(columns):
            left = chosen[row, column - 1] if column else classes
            above = chosen[row - 1, column] if row else classes
            _frequencies(left, above, used, expected, share, left_table, above_table, powers, frequency)
            width = high - low + 1
            place = ((value - low + 1) * TOTAL - 1) // width
            own, below = 0, np.int64(0)
            while own < classes - 1 and below + frequency[own] <= place:
                below += frequency[own]
                own += 1
            chosen[row, column] = own
            used[own] += 1
            high = low + width * (below + frequency[own]) // TOTAL - 1
            low = low + width * below // TOTAL
            while True:
                if high < _HALF:
                    pass
                elif low >= _HALF:
                    low -= _HALF
                    high -= _HALF
                    value -= _HALF
                elif low >= _QUARTER and high < 3 * _QUARTER:
                    low -= _QUARTER
                    high -= _QUARTER
                    value -= _QUARTER
                else:
                    break
                low, high = 2 * low, 2 * high + 1
                value = 2 * value + (np.int64(bits[at]) if at < len(bits) else 0)
                at += 1


def choose(costs: np.ndarray, price: float, shape: tuple[int, int], tables: ContextTables) -> tuple[np.ndarray, float]:
    """Choose the class of each block, int64 (rows, columns), with the least cost if bits have the price `price`.

    costs: float64 (rows * columns, classes), in squared error. shape: (rows, columns). Also returns the number of bits
    that the map takes, approximately.
    """
    chosen = np.zeros(shape, np.int64)
    spent = _choose(
        np.ascontiguousarray(costs, dtype=np.float64), float(price), *shape,
        tables.share, tables.left, tables.above, _POWERS, chosen,
    )  # fmt: skip
    return chosen, float(spent)


def encode(chosen: np.ndarray, tables: ContextTables, room: int) -> np.ndarray | None:
    """Classes int64 (rows, columns) -> bits uint8 (count,). None if they take more than `room` bits."""
    out = np.zeros(max(room, 0), np.uint8)
    count = _encode(chosen, tables.share, tables.left, tables.above, _POWERS, out)
    return None if count < 0 else out[:count]


def decode(bits: np.ndarray, shape: tuple[int, int], tables: ContextTables) -> np.ndarray:
    """The inverse of `encode`: bits uint8 (count,) -> classes int64 (rows, columns). Any bits may follow those of the
    map.
    """
    chosen = np.zeros(shape, np.int64)
    _decode(np.ascontiguousarray(bits, dtype=np.uint8), tables.share, tables.left, tables.above, _POWERS, chosen)
    return chosen
