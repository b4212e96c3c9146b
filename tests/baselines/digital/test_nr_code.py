"""Tests of the codes, the CRC and the constellations of 5G NR: they are Sionna's, bit for bit, without its program."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sionna_phy import sionna

from baselines.digital import nr_code
from baselines.digital.nr import HIGHEST_RATE, LOWEST_RATE, NrCodedModulation
from baselines.digital.nr_code import CRC_BITS, NrCode, crc24b
from baselines.digital.qam import Qam
from systems.errors import MissingDependency

# (k, n, bits per symbol, base graph): both graphs, all eight lifting sets, the limits of 7.2.2, filler bits, the lowest
# and the highest rates
SHAPES = [
    (8448, 9126, None, None), (8448, 25344, 2, None), (6336, 7603, 1, "bg1"), (7041, 7689, 3, "bg1"),
    (4224, 8448, 4, "bg1"), (3825, 4800, 6, None), (3824, 5760, 8, None), (3840, 19200, 6, "bg2"),
    (2400, 7200, 8, None), (1030, 5148, 4, "bg2"), (1150, 1728, 6, None), (640, 800, 8, None), (641, 1284, 2, None),
    (560, 1120, 2, "bg2"), (250, 500, 2, None), (192, 256, 4, None), (193, 400, 4, None), (60, 200, None, None),
    (36, 40, 2, None), (293, 330, 2, None), (292, 330, 2, None), (300, 900, 6, "bg1"), (12, 60, 4, None),
]  # fmt: skip


def same_words(k: int, n: int, bits_per_use: int | None, graph: str | None) -> None:
    theirs = sionna("fec.ldpc").LDPC5GEncoder(k, n, num_bits_per_symbol=bits_per_use, bg=graph, device="cpu")
    ours = NrCode(k, n, bits_per_use, graph)
    assert (ours.z, ours.base_graph, ours.k_ldpc, ours.n_ldpc) == (theirs.z, theirs._bg, theirs.k_ldpc, theirs.n_ldpc)
    bits = np.random.default_rng(k + n).integers(0, 2, (3, k), dtype=np.uint8)
    assert np.array_equal(ours.encode(bits), theirs(torch.from_numpy(bits).float()).numpy())
    if bits_per_use is not None:
        assert np.array_equal(ours.interleaved(np.arange(n)), theirs.out_int.numpy())


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "-".join(map(str, shape)))
def test_code_words_are_sionna_s(shape):
    same_words(*shape)


@settings(max_examples=25, deadline=None)
@given(st.integers(32, 3000), st.floats(1.09, 4.9), st.sampled_from((2, 4, 6, 8)))
def test_code_words_are_sionna_s_at_any_size(k, expansion, bits_per_use):
    n = int(k * expansion) // bits_per_use * bits_per_use
    rate = Fraction(k, n)
    assume(LOWEST_RATE <= rate <= HIGHEST_RATE)
    same_words(k, n, bits_per_use, None if rate >= Fraction(1, 3) else "bg2")


@pytest.mark.parametrize("k", [1, 8, 24, 1000, 8424])
def test_the_crc_is_sionna_s(k):
    bits = np.random.default_rng(k).integers(0, 2, (5, k), dtype=np.uint8)
    assert np.array_equal(
        crc24b(bits), sionna("fec.crc").CRCEncoder("CRC24B", k=k)(torch.from_numpy(bits).float()).numpy()[:, k:]
    )


@pytest.mark.parametrize("bits_per_use", [2, 4, 6, 8])
@pytest.mark.parametrize("method", ["app", "maxlog"])
def test_points_and_ratios_are_sionna_s(bits_per_use, method):
    mapping = sionna("mapping")
    constellation = mapping.Constellation("qam", bits_per_use, device="cpu")
    ours = Qam(bits_per_use, method)
    assert torch.equal(ours.points, constellation.points)
    generator = torch.Generator().manual_seed(bits_per_use)
    bits = torch.randint(0, 2, (3, 40 * bits_per_use), generator=generator).float()
    symbols = mapping.Mapper(constellation=constellation, device="cpu")(bits)
    assert torch.equal(ours.map(bits), symbols)
    received = symbols + 0.1 * torch.randn(symbols.shape, generator=generator, dtype=torch.complex64)
    for variance in (torch.rand(symbols.shape, generator=generator), torch.full(symbols.shape, 1e-30)):
        expected = mapping.Demapper(method, constellation=constellation, device="cpu")(received, variance)
        assert torch.equal(ours.llr(received, variance), expected)


@pytest.mark.parametrize(("k", "n", "bits_per_use"), [(100, 100, None), (100, 900, None), (9000, 12000, None),
                                                       (100, 201, 2)])  # fmt: skip
def test_sizes_without_a_code_are_refused(k, n, bits_per_use):
    with pytest.raises(ValueError):
        NrCode(k, n, bits_per_use)


def test_missing_tables_are_a_message_with_the_command(monkeypatch):
    nr_code._base_graph.cache_clear()
    monkeypatch.setattr(nr_code.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="pip install sionna-no-rt"):
        NrCode(100, 200)


def test_the_link_imports_neither_sionna_nor_matplotlib():
    """Sionna's package imports matplotlib and torch's compiler: four seconds of CPU in every run."""
    script = (
        "import sys, torch\nfrom baselines.digital.system import before_fork\nbefore_fork()\n"
        "heavy = {'sionna', 'matplotlib', 'torch._dynamo', 'sympy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[3], check=True)


def test_a_block_with_its_crc_is_a_word_of_the_link():
    link = NrCodedModulation(400, 16, Fraction(5, 6))
    payload = torch.randint(0, 2, (link.frame.blocks, link.frame.k - CRC_BITS)).float()
    word = link.encode_blocks(link.add_crc(payload))
    assert word.dtype == torch.float32 and word.shape == (link.frame.blocks, link.frame.n)
    bits, good = link.decode_blocks(8 * (2 * word - 1))
    assert good.all() and torch.equal(bits, payload)
