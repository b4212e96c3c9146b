"""Layered offset min-sum decoding of 5G NR LDPC codes in 8-bit integers, on the CPU. `baselines.digital.nr` calls it.

A code of TS 38.212, 5.3.2, is a base matrix. Each of its entries stands for a cyclically shifted z x z identity matrix.
The z checks of one base row use z different bits of each column, so they are updated together, in vectors of 32. The
rows are updated one after the other (as layers; Hocevar 2004), and each uses the results of the rows before it. A check
sends to each bit the smallest magnitude among its other bits, less an offset (Chen et al. 2005), with the product of
their signs. Decoding of a frame ends at the first iteration after which all checks hold.

Each column is stored rotated by the shift of the last row that used it. A row writes its results from the start of the
column. The next row has another shift, and begins to read at the difference of the two shifts. The first vector is
repeated after the end of the column, so that no read has to wrap around inside a vector. Rows whose parity bit is not
transmitted are left out, because they cannot change any bit. Columns that hold only filler bits are left out too.

The row update is LLVM code on vectors, which numba compiles for the processor at hand, so AVX2, plain SSE2 and NEON
need no separate source. Everything else is plain numba. The compiled code is cached on disk, so only the first process
waits for the compiler.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from baselines.digital.nr_code import NrCode
from systems.numba_compile import compiled

LANES = 32  # bytes per vector; the results do not depend on it
# Chosen by the block error rate at rates 1/5 to 10/11, QPSK to 64QAM. Wider values or messages cause an error floor.
STEPS_PER_LLR = 4.0
STEPS_PER_LLR_LOW_RATE = 4.5  # at rates up to 1/3
LARGEST_CHANNEL = 31  # largest value of a received bit, in steps; the values below are also in steps
LARGEST_MESSAGE = 40  # before the offset
OFFSET = 2
OFFSET_OF_SHORT_ROWS = 1
SHORT_ROW = 3  # a row with at most this many edges is short
KNOWN = 127  # value of filler bits, which are known to be 0
FRAMES_A_THREAD = 128  # they take some milliseconds; for fewer, starting a thread costs more than it saves


class Decisions(NamedTuple):
    """The result for b frames.

    bits: uint8 (b, k), 0 where a bit is undecided.
    decided: bool (b,), True if no information bit is undecided.
    converged: bool (b,), True if, in addition, all checks hold. Then the frame is a word of the code, but not always
    the word that was sent.
    iterations: int64 (b,), how many were done.
    """

    bits: np.ndarray
    decided: np.ndarray
    converged: np.ndarray
    iterations: np.ndarray


class LayeredDecoder:
    """Decodes the words of `code`: it undoes the rate matching and the bit interleaver too.

    The frames are shared among as many threads as torch may use. The result of a frame does not depend on the others.

    iterations: the most that are done.
    early_stop: True: a frame ends at the first iteration after which it is a word of the code. False: it always ends
    after `iterations`.
    """

    def __init__(self, code: NrCode, iterations: int, early_stop: bool = True):
        self.n = code.n
        self.iterations = iterations
        self.early_stop = early_stop
        self._code = _tables(code)
        self._scale = np.float32(STEPS_PER_LLR if code.k / code.n > 1 / 3 else STEPS_PER_LLR_LOW_RATE)

    def __call__(self, llr: np.ndarray | torch.Tensor) -> Decisions:
        """Decode log P(1)/P(0) of the received bits, (b, n). NaN means that nothing is known of a bit.

        Raises ValueError for another shape.
        """
        llr = np.ascontiguousarray(llr, dtype=np.float32)
        if llr.ndim != 2 or llr.shape[1] != self.n:
            raise ValueError(f"the LLRs have shape {llr.shape}, not (frames, {self.n})")
        count = len(llr)
        flags = (np.empty(count, dtype) for dtype in (np.bool_, np.bool_, np.int64))
        out = Decisions(np.empty((count, self._code.k), np.uint8), *flags)

        def decode(rows: slice) -> None:
            arrays = (array[rows] for array in out)
            _decode(llr[rows], self._scale, self._code, self.iterations, self.early_stop, *arrays)

        threads = max(1, min(torch.get_num_threads(), count // FRAMES_A_THREAD))
        edges = np.linspace(0, count, threads + 1).astype(int)
        parts = [slice(*pair) for pair in zip(edges[:-1], edges[1:], strict=True)]
        if threads == 1:
            decode(parts[0])
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(decode, parts))
        return out


class _Code(NamedTuple):
    """Addresses of all data. The posteriors are one int8 array with `stride` bytes per column. Edges are numbered row
    by row.
    """

    k: int
    z: int
    vectors: int  # vectors per column
    stride: int
    widest: int  # number of edges of the longest row
    row_start: np.ndarray  # int64 (rows + 1,): first edge of each base row
    column: np.ndarray  # int32 (edges,): where each edge's column starts
    read: np.ndarray  # int32 (rows, vectors, edges of the row), flat: places that a row's update reads
    settled: np.ndarray  # the same as `read`, for the check between two iterations
    blank: np.ndarray  # int8: posteriors before anything is received
    # int64 (runs, 3): (first bit, first place, length). Bits that lie one behind the other are copied together.
    received: np.ndarray  # of the received bits, whose numbers grow by `step` within a run
    step: int
    information: np.ndarray  # of the information bits


def _tables(code: NrCode) -> _Code:
    z, k, systematic = code.z, code.k, code.k_ldpc // code.z
    sent = np.concatenate([np.arange(2 * z, k), np.arange(code.k_ldpc, code.n_ldpc)])[: code.n]  # before interleaving
    columns = max(int(sent[-1]) // z + 1, systematic + 4)
    information = -(-k // z)
    vectors = -(-z // LANES)
    stride = (vectors + 1) * LANES

    base = code.base[: columns - systematic, :columns].copy()
    base[:, information:systematic] = -1
    rows, cols = np.nonzero(base >= 0)  # row by row
    shift = base[rows, cols]
    row_start = np.searchsorted(rows, np.arange(columns - systematic + 1))
    rotation = np.zeros(columns, dtype=int)
    rotation[cols] = shift  # a column has several entries here, and keeps the last one
    final, ahead = rotation.copy(), np.empty_like(shift)
    for edge, (col, own) in enumerate(zip(cols, shift, strict=True)):
        ahead[edge] = own - rotation[col]
        rotation[col] = own

    def vectors_from(first: np.ndarray) -> np.ndarray:
        places = (first + LANES * np.arange(vectors)[:, None]) % z + cols * stride  # (vectors, edges)
        rows = [places[:, a:b].reshape(-1) for a, b in zip(row_start[:-1], row_start[1:], strict=True)]
        return np.concatenate(rows).astype(np.int32)

    def place(bit: np.ndarray) -> np.ndarray:
        return bit // z * stride + (bit - final[bit // z]) % z

    blank = np.zeros(columns * stride, dtype=np.int8)
    blank[place(np.arange(k, information * z))] = KNOWN
    step = code.bits_per_use or 1  # by which the interleaver moves apart what was side by side
    return _Code(
        k, z, vectors, stride, int(np.diff(row_start).max()), row_start, (cols * stride).astype(np.int32),
        vectors_from(ahead), vectors_from(shift - final[cols]), blank, _runs(place(code.interleaved(sent)), step), step,
        _runs(place(np.arange(k)), 1),
    )  # fmt: skip


def _runs(places: np.ndarray, step: int) -> np.ndarray:
    """Bit i lies at `places[i]`. Returns the runs of bits that lie one behind the other, and whose numbers grow by
    `step`, as in `_Code`.
    """
    bits = np.argsort(places)
    ends = (np.diff(places[bits]) != 1) | (np.diff(bits) != step)
    first = np.concatenate([[0], np.flatnonzero(ends) + 1])
    length = np.diff(np.append(first, len(bits)))
    return np.stack([bits[first], places[bits[first]], length], axis=1).astype(np.int64)


# --- compiled ---------------------------------------------------------------------------------------------------------

_index = ir.IntType(64)
_vector = ir.VectorType(ir.IntType(8), LANES)


class _Vectors:
    """LLVM code on vectors of int8. Places are counted in bytes, from pointers to int8."""

    zero = ir.Constant(_vector, None)

    def __init__(self, builder):
        self.builder = builder

    def all(self, value: int):
        return ir.Constant(_vector, [value] * LANES)

    def _at(self, array, place):
        return self.builder.bitcast(self.builder.gep(array, [place]), _vector.as_pointer())

    def load(self, array, place):
        return self.builder.load(self._at(array, place), align=1)

    def store(self, value, array, place):
        self.builder.store(value, self._at(array, place), align=1)

    def call(self, name: str, *operands):
        """LLVM's intrinsic of this name."""
        kind = ir.FunctionType(_vector, [operand.type for operand in operands])
        return self.builder.call(
            cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.{name}.v{LANES}i8"), operands
        )

    def magnitude(self, x):
        """The magnitude, to be read as unsigned: that of -128 is 128."""
        return self.call("abs", x, ir.Constant(ir.IntType(1), 0))

    def negative(self, x):
        return self.builder.icmp_signed("<", x, self.zero)

    # --- on integers

    def times(self, count, factor: int):
        return self.builder.mul(count, ir.Constant(_index, factor))

    def entry(self, table, at):
        return self.builder.sext(self.builder.load(self.builder.gep(table, [at])), _index)

    def loop(self, count):
        return cgutils.for_range(self.builder, count, intp=_index)


def _emit_update(builder, posterior, message, scratch, read, column, edges, vectors, z) -> None:
    """Emit the code that updates the z checks of one base row.

    posterior: int8, the whole array.
    message: int8 (vectors, edges, LANES), of this row.
    read: int32 (vectors, edges), of this row.
    column: int32 (edges,), of this row.
    scratch: int8, with room for (vectors, edges + 3, LANES).
    """
    b, on = builder, _Vectors(builder)
    lowest, second, sign = (cgutils.alloca_once(b, _vector) for _ in range(3))  # LLVM turns them into registers
    width = on.times(edges, LANES)
    results = [b.add(width, ir.Constant(_index, i * LANES)) for i in range(3)]
    step = b.add(width, ir.Constant(_index, 3 * LANES))
    is_short = b.icmp_signed("<=", edges, ir.Constant(_index, SHORT_ROW))
    offset = b.select(is_short, on.all(OFFSET_OF_SHORT_ROWS), on.all(OFFSET))

    with on.loop(vectors) as outer:
        places = b.gep(read, [b.mul(outer.index, edges)])
        old = b.gep(message, [b.mul(outer.index, width)])
        kept = b.gep(scratch, [b.mul(outer.index, step)])
        b.store(on.all(LARGEST_MESSAGE), lowest)
        b.store(on.all(LARGEST_MESSAGE), second)
        b.store(on.zero, sign)
        with on.loop(edges) as inner:
            at = on.times(inner.index, LANES)
            x = on.call("ssub.sat", on.load(posterior, on.entry(places, inner.index)), on.load(old, at))
            on.store(x, kept, at)
            size = on.magnitude(x)
            b.store(on.call("umin", b.load(second), on.call("umax", b.load(lowest), size)), second)
            b.store(on.call("umin", b.load(lowest), size), lowest)
            b.store(b.xor(b.load(sign), x), sign)
        for place, value in zip(results, (lowest, second, sign), strict=True):
            on.store(b.load(value), kept, place)

    # In a second pass, because all vectors of a column must be read before the first is written to its new place.
    with on.loop(vectors) as outer:
        new = b.gep(message, [b.mul(outer.index, width)])
        kept = b.gep(scratch, [b.mul(outer.index, step)])
        target = b.gep(posterior, [on.times(outer.index, LANES)])
        least, next_least, signs = (on.load(kept, place) for place in results)
        to_others, to_least = (on.call("usub.sat", value, offset) for value in (least, next_least))
        with on.loop(edges) as inner:
            at = on.times(inner.index, LANES)
            x = on.load(kept, at)
            size = b.select(b.icmp_signed("==", on.magnitude(x), least), to_least, to_others)
            y = b.select(on.negative(b.xor(x, signs)), b.sub(on.zero, size), size)
            on.store(y, new, at)
            on.store(on.call("sadd.sat", x, y), target, on.entry(column, inner.index))

    with on.loop(edges) as loop:
        start = on.entry(column, loop.index)
        on.store(on.load(posterior, start), posterior, b.add(start, z))


def _emit_parity(builder, posterior, read, edges, vectors):
    """Emit the code that gives 1 if any of the z checks of one base row fails, otherwise 0.
    read: as in `_emit_update`.
    """
    b, on = builder, _Vectors(builder)
    odd, failed = (cgutils.alloca_once_value(b, on.zero) for _ in range(2))
    with on.loop(vectors) as outer:
        places = b.gep(read, [b.mul(outer.index, edges)])
        b.store(on.zero, odd)
        with on.loop(edges) as inner:
            b.store(b.xor(b.load(odd), on.load(posterior, on.entry(places, inner.index))), odd)
        b.store(b.or_(b.load(failed), b.load(odd)), failed)
    lanes = b.bitcast(on.negative(b.load(failed)), ir.IntType(LANES))
    return b.zext(b.icmp_unsigned("!=", lanes, ir.Constant(lanes.type, 0)), _index)


def _pointers(context, builder, signature, arguments):
    return [
        cgutils.create_struct_proxy(kind)(context, builder, argument).data
        if isinstance(kind, types.Array)
        else argument
        for kind, argument in zip(signature.args, arguments, strict=True)
    ]


@intrinsic
def _update_row(typing_context, posterior, message, scratch, read, column, edge, edges, vectors, z):
    """Emit `_emit_update` for the row whose `edges` edges begin at `edge`. The arrays are those of the whole code."""

    def generate(context, builder, signature, arguments):
        posterior, message, scratch, read, column, edge, edges, vectors, z = _pointers(
            context, builder, signature, arguments
        )
        first = builder.mul(edge, vectors)
        message = builder.gep(message, [builder.mul(first, ir.Constant(_index, LANES))])
        read, column = builder.gep(read, [first]), builder.gep(column, [edge])
        _emit_update(builder, posterior, message, scratch, read, column, edges, vectors, z)
        return context.get_dummy_value()

    return types.void(posterior, message, scratch, read, column, edge, edges, vectors, z), generate


@intrinsic
def _row_fails(typing_context, posterior, settled, edge, edges, vectors):
    def generate(context, builder, signature, arguments):
        posterior, settled, edge, edges, vectors = _pointers(context, builder, signature, arguments)
        return _emit_parity(builder, posterior, builder.gep(settled, [builder.mul(edge, vectors)]), edges, vectors)

    return types.intp(posterior, settled, edge, edges, vectors), generate


# Only plain loops: each library function that numba has to compile costs the first process up to a second.
@compiled
def _decode(llr, scale, code, iterations, early_stop, bits, decided, converged, used):
    n, rows = llr.shape[1], len(code.row_start) - 1
    limit = np.float32(LARGEST_CHANNEL)
    posterior = np.empty(len(code.blank), np.int8)
    message = np.empty(len(code.column) * code.vectors * LANES, np.int8)
    scratch = np.empty((code.widest + 3) * code.vectors * LANES, np.int8)
    received = np.empty(n, np.int8)
    for frame in range(len(llr)):
        for i in range(n):
            x = -scale * llr[frame, i]  # positive: 0 is more likely than 1
            x = limit if x > limit else x
            x = -limit if x < -limit else x
            x = np.float32(0) if x != x else x
            received[i] = np.int32(x + (limit + np.float32(0.5))) - LARGEST_CHANNEL
        for i in range(len(posterior)):
            posterior[i] = code.blank[i]
        for run in range(len(code.received)):
            bit, place, length = code.received[run, 0], code.received[run, 1], code.received[run, 2]
            source, target = received[bit : bit + length * code.step : code.step], posterior[place : place + length]
            for i in range(len(target)):
                target[i] = source[i]
        for start in range(0, len(posterior), code.stride):
            for i in range(start, start + LANES):
                posterior[i + code.z] = posterior[i]
        for i in range(len(message)):
            message[i] = 0
        for iteration in range(iterations):
            for row in range(rows):
                edge, edges = code.row_start[row], code.row_start[row + 1] - code.row_start[row]
                _update_row(posterior, message, scratch, code.read, code.column, edge, edges, code.vectors, code.z)
            if not early_stop and iteration < iterations - 1:
                continue
            word = True
            for row in range(rows):
                edge, edges = code.row_start[row], code.row_start[row + 1] - code.row_start[row]
                if _row_fails(posterior, code.settled, edge, edges, code.vectors):
                    word = False
                    break
            if word or iteration == iterations - 1:
                certain = True
                for run in range(len(code.information)):
                    bit, place, length = code.information[run, 0], code.information[run, 1], code.information[run, 2]
                    values, target = posterior[place : place + length], bits[frame, bit : bit + length]
                    for i in range(len(target)):
                        target[i] = values[i] < 0
                        certain &= values[i] != 0
                decided[frame], converged[frame], used[frame] = certain, word & certain, iteration + 1
                if word & certain:
                    break
