"""Tests of the small grammars: limits are checked before any work, numbers are read as numbers, and everything else is
refused with one line.
"""

import time
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.spec.figure import FIGURE_KEYS, read_figures
from bench.spec.grammar import parse_cbr, parse_count, parse_kbits, parse_names, parse_ratio, parse_snr, parse_text
from bench.spec.keys import field_lines, key_lines
from systems.errors import UserError

FIGURE = {"id": "mine", "task": "reconstruction", "dataset": "photos", "systems": ["linear"], "cbr": "1/16"}
HUGE = ["1e99999999", "1e-99999999", "9" * 5000, "1/1e99999999", "1e400", "0x10", "1_0", "١", "", "nan", "inf", "1/0",
        "--1", "1/2/3", "½",
        pytest.param(10**5000, id="digits"), float("nan"), float("inf"), True, None, [1], {"a": 1}, b"1"]  # fmt: skip


@pytest.mark.parametrize("value", HUGE)
@pytest.mark.parametrize("parse", [parse_snr, parse_cbr, parse_kbits])
def test_numbers_out_of_bounds_are_one_line_at_once(parse, value):
    start = time.perf_counter()
    if parse is parse_snr and value == [1]:
        return  # a list of SNRs
    with pytest.raises(UserError) as caught:
        parse(value)
    assert time.perf_counter() - start < 1
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "text", ["0:1:1e-300", "0:1e-300:1e-300", "0:200:1e-9", "-200:200:1e-8", "0:1e999:1", "1," * 10**5 + "1"]
)
def test_endless_ranges_are_refused_at_once(text):
    start = time.perf_counter()
    with pytest.raises(UserError):
        parse_snr(text)
    assert time.perf_counter() - start < 1


def test_numbers_are_compared_as_numbers():
    assert parse_snr([0.1 + 0.2]) == parse_snr("0.3") == (0.3,)
    assert parse_cbr(0.0625) == parse_cbr("0.0625") == parse_cbr(" 1 / 16 ") == parse_cbr("2/32") == 1 / 16
    assert parse_kbits(20.0) == parse_kbits("2e1") == 20_000
    # Seeds and tables tell SNRs apart to 1e-6 dB: two that are nearer would be one point with each picture twice.
    for twice in ([0.1 + 0.2, 0.3], "0:4:2,2.0", [1, 1.0], "1,1.0000001"):
        with pytest.raises(UserError, match="named twice"):
            parse_snr(twice)
    with pytest.raises(UserError, match="names a budget twice"):
        read_figures({**FIGURE, "cbr": ["1/16", 0.0625]}, "f.toml")


@given(st.decimals(-200, 200, places=3), st.decimals(0, 5, places=3).filter(bool), st.integers(0, 200))
def test_a_range_holds_its_ends_and_equal_steps(start, step, count):
    stop = start + step * count
    text = f"{start}:{stop}:{step}"
    if abs(stop) > 200:
        with pytest.raises(UserError, match="beyond"):
            parse_snr(text)
        return
    points = parse_snr(text)
    assert len(points) == count + 1
    assert points == tuple(float(start + step * i) for i in range(count + 1))


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_ratios_are_exact(above, below):
    ratio = Fraction(above, below)
    assert parse_ratio(f"{above}/{below}", "--cbr", "a ratio") == ratio
    if ratio <= 4:
        assert parse_cbr(f"{above}/{below}") == float(ratio)


@given(st.one_of(st.text(max_size=30), st.floats(), st.integers(), st.lists(st.floats(), max_size=4), st.none()))
def test_any_value_is_a_number_or_one_line(value):
    for parse, low, high in ((parse_snr, -200, 200), (parse_cbr, 0, 4), (parse_kbits, 1, 10**7)):
        try:
            found = parse(value)
        except UserError as error:
            assert len(str(error).splitlines()) == 1
        else:
            assert all(low <= one <= high for one in (found if parse is parse_snr else [found]))


def test_counts_texts_and_names():
    assert parse_count(3, "reps", 10) == 3
    for wrong in (0, 11, 10**23, 1.0, "3", True, None):
        with pytest.raises(UserError, match="reps must be a whole number, at least 1"):
            parse_count(wrong, "reps", 10)
    assert parse_text("Größe: 5 · 10⁻³", "title") == "Größe: 5 · 10⁻³"
    for wrong in ("a\nb", "a\x1b[2J", "x" * 1001, 3, "\ud800"):
        with pytest.raises(UserError, match="title"):
            parse_text(wrong, "title")
    assert parse_names(["b", "a", "b"], "systems") == ("b", "a")
    for wrong in ([], [""], "a", ["a", 3], ["x" * 201], [f"s{i}" for i in range(101)]):
        with pytest.raises(UserError, match="systems"):
            parse_names(wrong, "systems")


_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12), st.decimals(allow_nan=False)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([key.name for key in FIGURE_KEYS] + ["extra"]), _VALUES, max_size=6))
def test_any_figure_file_is_figures_or_one_line_with_its_name(values):
    values = {key: value for key, value in values.items() if not isinstance(value, Decimal)}
    try:
        figures = read_figures({**FIGURE, **values}, "f.toml")
    except UserError as error:
        assert str(error).startswith("f.toml") and len(str(error).splitlines()) == 1
    else:
        assert all(figure.systems and figure.snr_db and 1 <= figure.reps <= 10_000 for figure in figures)


def test_every_key_says_what_it_means():
    assert all(kind and doc for _, kind, doc in key_lines(FIGURE_KEYS))
    from systems.gensc.config import GenSCConfig

    rows = {name: (kind, doc) for name, kind, doc in field_lines(GenSCConfig)}
    assert rows["decoder_window"] == (
        "int [0]",
        "side of a window in tokens; 0: every patch attends to every other, as in DiT",
    )
    assert rows["channels"][0] == "int [96]" and "CBR 1/16" in rows["channels"][1]
