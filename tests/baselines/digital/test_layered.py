"""Tests of the layered decoder: against Sionna's belief propagation, on the encoder's own code words, and on unusual
input.
"""

import hashlib
import importlib
import inspect
import os
import pickle
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from llvmlite import binding, ir
from scipy.stats import binomtest
from sionna_phy import sionna

from baselines.digital import layered, system
from baselines.digital.layered import FRAMES_A_THREAD, LayeredDecoder
from baselines.digital.nr import CRC_BITS, NrCodedModulation, NrOptions
from baselines.digital.nr_code import NrCode
from baselines.digital.system import make_coded_modulation
from systems.errors import UserError
from systems.numba_compile import compiled


def test_after_before_fork_no_code_is_compiled(monkeypatch):
    """Processes forked afterwards have the compiled decoder, whichever code they decode."""
    monkeypatch.setattr(layered, "_decode", compiled(layered._decode.py_func))
    assert not layered._decode.signatures
    system.before_fork()
    (known,) = layered._decode.signatures
    for order, rate in ((16, Fraction(5, 6)), (64, Fraction(1, 3))):
        link = make_coded_modulation("nr", 3000, order, rate, 20)
        link.decode_blocks(torch.randn(2, link.frame.n, generator=torch.Generator().manual_seed(1)))
    assert layered._decode.signatures == [known]


# (k, n, bits per symbol or None, base graph, Es/N0 of QPSK in dB at which some frames fail): both graphs, all lifting
# sets, 1 to 11 vectors, columns that hold only filler bits (7041 bits in 22 columns of 352; 60 bits in 6 of 10
# columns), lifting sizes smaller than a vector, rates 1/5 to 11/12
CODES = (
    (6336, 7603, None, "bg1", 5.3),
    (4224, 8448, 4, "bg1", 1.2),
    (7041, 7689, 1, "bg1", 7.6),
    (1150, 1728, 6, "bg2", 3.4),
    (2400, 7200, 8, "bg1", -0.7),
    (1030, 5148, 4, "bg2", -3.6),
    (250, 500, 2, "bg2", 2.0),
    (60, 200, None, "bg2", 1.0),
)
NAMES = ["-".join(map(str, code[:4])) for code in CODES]


def noisy(encoder, snr_db, count, seed):
    """Sent bits uint8 (count, k) and LLRs float32 (count, n) of QPSK, one bit per real dimension."""
    generator = torch.Generator().manual_seed(seed)
    bits = torch.randint(0, 2, (count, encoder.k), generator=generator).float()
    snr = 10 ** (snr_db / 10)
    noise = torch.randn((count, encoder.n), generator=generator)
    return bits.numpy().astype(np.uint8), (2 * snr * (2 * encoder(bits) - 1) + 2 * snr**0.5 * noise).numpy()


def encoder_of(k, n, bits_per_symbol, graph):
    return sionna("fec.ldpc").LDPC5GEncoder(k, n, num_bits_per_symbol=bits_per_symbol, bg=graph, device="cpu")


def code_of(encoder) -> NrCode:
    """The same code as Sionna's encoder makes, for our decoder."""
    return NrCode(encoder.k, encoder.n, encoder.num_bits_per_symbol, encoder._bg)


def word_of(encoder, bits):
    """The coded bits that belong to decided bits, in the order in which they are sent."""
    return encoder(torch.from_numpy(bits).float()).numpy()


@pytest.mark.parametrize("code", CODES, ids=NAMES)
def test_where_both_decoders_find_a_word_it_is_the_same(code):
    *shape, snr = code
    encoder = encoder_of(*shape)
    count = 30 if encoder.k < 2000 else 8
    sent, llr = noisy(encoder, snr + 0.3, count, seed=1)
    found = LayeredDecoder(code_of(encoder), 20)(llr)
    ours = word_of(encoder, found.bits)
    decoders = [
        sionna("fec.ldpc").LDPC5GDecoder(encoder, cn_update="boxplus", return_infobits=part, device="cpu")
        for part in (False, True)
    ]
    with torch.inference_mode():
        words = decoders[0](torch.from_numpy(llr)).numpy()
        other = (words != ours).any(axis=1)
        if other.any():  # at least one result is not a code word
            theirs = word_of(encoder, decoders[1](torch.from_numpy(llr[other])).numpy())
            assert not (found.converged[other] & (theirs == words[other]).all(axis=1)).any()
    both = found.converged & ~other
    assert both.sum() >= count // 2
    assert np.array_equal(found.bits[both], sent[both])


@pytest.mark.parametrize("code", CODES, ids=NAMES)
def test_a_clean_word_takes_few_iterations(code):
    encoder = encoder_of(*code[:4])
    sent, _ = noisy(encoder, 0.0, 8, seed=3)
    sent[0], sent[1] = 0, 1
    for strength in (2.0, 10.0, 1e30):
        found = LayeredDecoder(code_of(encoder), 20)(np.float32(strength) * (2 * word_of(encoder, sent) - 1))
        assert found.converged.all() and found.decided.all()
        assert np.array_equal(found.bits, sent)
        assert found.iterations.max() <= 6


def plain(encoder, llr, iterations):
    """The same algorithm written from its definition, on the lifted parity-check matrix, without rotation or packing.

    Columns of fillers alone, and rows of parity bits that are not sent, are left out. Returns posteriors (n_ldpc,) and
    the number of iterations.
    """
    z, k = encoder.z, encoder.k
    order = np.arange(encoder.n) if encoder.num_bits_per_symbol is None else encoder.out_int.numpy()
    sent = np.concatenate([np.arange(2 * z, k), np.arange(encoder.k_ldpc, encoder.n_ldpc)])[: encoder.n][order]
    scale = 4.0 if encoder.coderate > 1 / 3 else 4.5
    posterior = np.zeros(encoder.n_ldpc, int)
    posterior[sent] = np.floor(np.clip(-scale * llr.astype(np.float64), -31, 31) + 0.5)
    posterior[k : encoder.k_ldpc] = 127
    last = max((sent.max() - encoder.k_ldpc) // z + 1, 4)
    alone = np.arange(-(-k // z) * z, encoder.k_ldpc)
    checks = [
        [np.setdiff1d(encoder.pcm[row].indices, alone) for row in range(z * layer, z * layer + z)]
        for layer in range(last)
    ]
    layers = [np.array(layer) for layer in checks]
    messages = [np.zeros(layer.shape, int) for layer in layers]
    for iteration in range(1, iterations + 1):  # noqa: B007  given back
        for layer, message in zip(layers, messages, strict=True):
            x = np.clip(posterior[layer] - message, -128, 127)
            for edge in range(layer.shape[1]):
                others = np.delete(x, edge, axis=1)
                offset = 1 if layer.shape[1] <= 3 else 2
                size = np.maximum(np.minimum(np.abs(others).min(axis=1), 40) - offset, 0)
                message[:, edge] = np.where((others < 0).sum(axis=1) % 2, -size, size)
            posterior[layer] = np.clip(x + message, -128, 127)
        fails = any(((posterior[layer] < 0).sum(axis=1) % 2).any() for layer in layers)
        if not fails and (posterior[:k] != 0).all():
            break
    return posterior, iteration


@pytest.mark.parametrize(
    "code",
    [(1000, 1500, 6, "bg2", 3.6), (330, 400, 4, "bg1", 5.5), (200, 400, 2, "bg2", 2.4), (60, 200, None, "bg2", 1.0)],
)
def test_it_is_layered_min_sum_bit_for_bit(code):
    *shape, snr = code
    encoder = encoder_of(*shape)
    _, llr = noisy(encoder, snr, 6, seed=4)
    for iterations in (1, 3, 20):
        found = LayeredDecoder(code_of(encoder), iterations)(llr)
        for row in range(len(llr)):
            posterior, used = plain(encoder, llr[row], iterations)
            assert np.array_equal(found.bits[row], posterior[: encoder.k] < 0)
            assert found.decided[row] == (posterior[: encoder.k] != 0).all()
            assert found.iterations[row] == used


def test_noise_alone_does_not_converge():
    for shape in (CODES[0][:4], CODES[3][:4], CODES[4][:4]):
        encoder = encoder_of(*shape)
        _, llr = noisy(encoder, -12.0, 20, seed=5)
        found = LayeredDecoder(code_of(encoder), 20)(llr)
        assert not found.converged.any() and (found.iterations == 20).all()


def test_nothing_received_is_nothing_decided():
    """The word of zeros satisfies all checks, and its CRC is zero. The decoder must therefore notice that nothing was
    received.
    """
    for code in CODES:
        encoder = encoder_of(*code[:4])
        for value in (0.0, np.nan):
            found = LayeredDecoder(code_of(encoder), 20)(np.full((2, encoder.n), value, np.float32))
            assert not found.decided.any() and not found.converged.any()
    for name in ("layered", "sionna"):
        link = NrCodedModulation(500, 16, Fraction(1, 2), NrOptions(name))
        assert name == "sionna" or not link.decode_blocks(torch.zeros(2, link.frame.n))[1].any()


def test_what_is_not_a_number_says_nothing():
    encoder = encoder_of(4224, 8448, 4, "bg1")
    sent, llr = noisy(encoder, 3.0, 8, seed=6)
    rng = np.random.default_rng(0)
    lost = rng.random(llr.shape) < 0.1
    decode = LayeredDecoder(code_of(encoder), 20)
    holes = decode(np.where(lost, np.nan, llr))
    assert holes.converged.all() and np.array_equal(holes.bits, sent)
    for one, other in zip(holes, decode(np.where(lost, 0, llr)), strict=True):
        assert np.array_equal(one, other)
    certain = np.where(rng.random(llr.shape) < 0.1, np.inf * (2 * word_of(encoder, sent) - 1), llr)
    assert np.array_equal(decode(certain).bits, sent)


def test_threads_and_company_change_nothing():
    encoder = encoder_of(1000, 1500, None, "bg2")
    _, llr = noisy(encoder, 3.4, 3 * FRAMES_A_THREAD + 3, seed=7)
    decode = LayeredDecoder(code_of(encoder), 20)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = decode(llr)
        torch.set_num_threads(4)
        together = decode(torch.from_numpy(llr))
    finally:
        torch.set_num_threads(before)
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(decode(llr[17:18]).bits, alone.bits[17:18])
    assert 0 < alone.converged.sum() < len(llr)
    assert decode(llr[:0]).bits.shape == (0, encoder.k)
    with pytest.raises(ValueError, match=r"\(2, 1499\), not \(frames, 1500\)"):
        decode(llr[:2, :-1])


def test_both_decoders_of_the_link_deliver_the_same():
    for order, rate, snr in ((16, "5/6", 13.0), (256, "1/2", 16.0), (4, "1/5", -1.0)):
        links = [make_coded_modulation(name, 1500, order, Fraction(rate), 20) for name in ("nr", "nr-sionna")]
        assert [link.options.decoder for link in links] == ["layered", "sionna"]
        rng = np.random.default_rng(order)
        payload = rng.integers(0, 2, links[0].frame.payload_bits, dtype=np.uint8)
        variance = 10 ** (-snr / 10)
        noise = torch.from_numpy((rng.standard_normal((1500, 2)) * (variance / 2) ** 0.5).astype(np.float32))
        symbols = links[0].encode(payload)
        for link in links:
            delivery = link.decode(symbols + torch.view_as_complex(noise), torch.full((1500,), variance))
            assert np.array_equal(delivery.bits, payload)
    with pytest.raises(UserError, match="unknown decoder 'turbo'"):
        NrCodedModulation(500, 16, Fraction(1, 2), NrOptions("turbo"))


ELSEWHERE = """
import hashlib, pickle, sys
from baselines.digital import layered
decode, llr = pickle.load(sys.stdin.buffer)
found = decode(llr)
print(hashlib.sha256(b"".join(array.tobytes() for array in found)).hexdigest(), len(layered._decode.stats.cache_hits))
"""


def test_any_processor_computes_the_same_and_compiles_once(tmp_path):
    """LLVM provides the vectors, whatever the processor: code for the oldest x86-64 (SSE2), or for `generic` elsewhere,
    gives the same digits.
    """
    encoder = encoder_of(*CODES[0][:4])
    decode, llr = LayeredDecoder(code_of(encoder), 20), noisy(encoder, CODES[0][4], 20, seed=8)[1]
    digest = hashlib.sha256(b"".join(array.tobytes() for array in decode(llr))).hexdigest()
    plainest = {
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(tmp_path),
        "OMP_NUM_THREADS": "1",
    }
    env = {**os.environ, **plainest, "PYTHONPATH": str(Path(layered.__file__).parents[2])}
    for hits in (0, 1):
        done = subprocess.run([sys.executable, "-c", ELSEWHERE], input=pickle.dumps((decode, llr)), env=env,
                              capture_output=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.decode().split() == [digest, str(hits)]


def test_the_vectors_become_those_of_another_processor():
    """The test has no Arm machine. It checks only that LLVM turns the row update into NEON's saturating arithmetic."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    triple = "aarch64-unknown-linux-gnu"
    try:
        machine = binding.Target.from_triple(triple).create_target_machine(opt=3)
    except RuntimeError as error:
        pytest.skip(f"llvmlite was built without this target: {error}")
    module, byte, word, index = ir.Module(), ir.IntType(8).as_pointer(), ir.IntType(32).as_pointer(), ir.IntType(64)
    row = ir.Function(module, ir.FunctionType(index, [byte, byte, byte, word, word, index, index, index]), "row")
    builder = ir.IRBuilder(row.append_basic_block())
    posterior, message, scratch, read, column, edges, vectors, z = row.args
    layered._emit_update(builder, posterior, message, scratch, read, column, edges, vectors, z)
    builder.ret(layered._emit_parity(builder, posterior, read, edges, vectors))
    code = binding.parse_assembly(str(module))
    code.triple, code.data_layout = triple, str(machine.target_data)
    code.verify()
    assembly = machine.emit_assembly(code)
    assert all(name in assembly for name in ("sqsub", "sqadd", "uqsub", "umin", "umax"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("order", "rate", "uses", "snr"),
    [
        (4, "1/5", 2000, -3.7),
        (16, "1/4", 1500, 1.8),
        (4, "1/3", 1500, -1.2),
        (16, "1/2", 1000, 6.2),
        (64, "5/6", 1500, 16.8),
    ],
)
def test_block_errors_are_no_more_than_sionnas(order, rate, uses, snr):
    """Both decode the same frames, through interleaver, mapper, demapper and CRC, until each has at least 100 block
    errors.
    """
    links = [NrCodedModulation(uses, order, Fraction(rate), NrOptions(name)) for name in ("layered", "sionna")]
    rng = np.random.default_rng(order)
    variance = 10 ** (-snr / 10)
    errors, count, batch = np.zeros(2, int), 0, 32
    while errors.min() < 100 and count < 4000:
        payload = torch.from_numpy(rng.integers(0, 2, (batch, links[0].frame.k - CRC_BITS))).float()
        symbols = links[0].map(links[0].encode_blocks(links[0].add_crc(payload)))
        noise = torch.from_numpy((rng.standard_normal((*symbols.shape, 2)) * (variance / 2) ** 0.5).astype(np.float32))
        llr = links[0].llr(symbols + torch.view_as_complex(noise), torch.full(symbols.shape, variance))
        for which, link in enumerate(links):
            bits, good = link.decode_blocks(llr)
            assert torch.equal(bits[good], payload[good])
            errors[which] += int((~good).sum())
        count += batch
    print(f"{order}QAM {rate} at {snr} dB: {errors[0]} layered, {errors[1]} Sionna, of {count}")
    assert errors.min() >= 100
    ours, theirs = (binomtest(int(failed), count).proportion_ci(0.95) for failed in errors)
    assert ours.low <= theirs.high


def test_without_early_stop_all_iterations_are_spent_and_say_the_same():
    encoder = sionna("fec.ldpc").LDPC5GEncoder(400, 800, device="cpu")
    rng = np.random.default_rng(11)
    bits = rng.integers(0, 2, (40, 400))
    words = encoder(torch.from_numpy(bits).float()).numpy()
    llr = (4.0 * (2 * words - 1) + 2.8 * rng.standard_normal(words.shape)).astype(np.float32)
    early, late = (LayeredDecoder(code_of(encoder), 10, stop)(llr) for stop in (True, False))
    assert early.converged.all() and early.iterations.max() < 10
    assert np.array_equal(early.bits, bits) and np.array_equal(late.bits, bits)
    assert late.converged.all() and (late.iterations == 10).all()


@pytest.mark.slow
def test_no_result_depends_on_the_width_of_the_vectors(tmp_path, monkeypatch):
    """The decoder's source with vectors of 16 and of 64 bytes gives the same digits, for code words and for other
    input.
    """
    source = inspect.getsource(layered)
    assert "\nLANES = 32 " in source
    for k, n in ((60, 200), (400, 800), (1000, 1200), (6336, 7603)):
        encoder = sionna("fec.ldpc").LDPC5GEncoder(k, n, device="cpu")
        rng = np.random.default_rng(k)
        words = encoder(torch.from_numpy(rng.integers(0, 2, (30, k))).float()).numpy()
        llr = (2.0 * (2 * words - 1) + 2.6 * rng.standard_normal(words.shape)).astype(np.float32)
        expected = LayeredDecoder(code_of(encoder), 8)(llr)
        for lanes in (16, 64):
            name = f"layered_{lanes}"
            (tmp_path / f"{name}.py").write_text(source.replace("\nLANES = 32 ", f"\nLANES = {lanes} "))
            monkeypatch.syspath_prepend(tmp_path)
            found = importlib.import_module(name).LayeredDecoder(code_of(encoder), 8)(llr)
            for ours, theirs in zip(expected, found, strict=True):
                assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("bits_per_use", [None, 2, 4, 6])
@pytest.mark.parametrize("k", [8, 9, 21, 58, 333, 6336])
def test_each_bit_is_copied_once(k, bits_per_use):
    """The runs in which bits are copied, by their own rule, hold each received and each information bit once."""
    n = 12 * -(-2 * k // 12)
    code = layered._tables(NrCode(k, n, bits_per_use))
    for runs, step, count in ((code.received, code.step, n), (code.information, 1, k)):
        bits = [bit for first, _, length in runs for bit in range(first, first + length * step, step)]
        places = [place for _, first, length in runs for place in range(first, first + length)]
        assert sorted(bits) == list(range(count)) and len(set(places)) == count
