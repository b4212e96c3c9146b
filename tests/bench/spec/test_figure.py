"""Tests of SNR ranges, budgets and figure files."""

from __future__ import annotations

import pytest

from bench.measure.budget import budget_of
from bench.spec.figure import (
    FIGURE_KEYS,
    PICTURE_KEYS,
    figure_names,
    load_figure,
    load_figures,
    paper_figures,
    read_figure,
    with_snr,
)
from bench.spec.grammar import parse_cbr, parse_kbits, parse_snr
from bench.spec.keys import key_lines
from bench.spec.request import Request, resolve
from systems import registry
from systems.errors import UserError

FIGURE = {"id": "mine", "task": "reconstruction", "dataset": "photos", "systems": ["linear"], "cbr": "1/16"}


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("0:20:2", (0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20)),
        ("-5:5:5", (-5, 0, 5)),
        ("20:0:-10", (0, 10, 20)),
        ("0:0.3:0.1", (0, 0.1, 0.2, 0.3)),  # three times 0.1 is not 0.3 in floating point
        ("7", (7,)),
        ("1,4,7", (1, 4, 7)),
        ("10, 4,-2.5", (-2.5, 4, 10)),
        ("0:4:2,10", (0, 2, 4, 10)),
        ("3:3:1", (3,)),
        ([0, 18.5], (0, 18.5)),
        ("-0", (0,)),
        ("1e1", (10,)),
    ],
)
def test_snr(text, points):
    assert parse_snr(text) == points
    assert all(str(point) != "-0.0" for point in parse_snr(text))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0:20:3", "do not reach 20; stop at 18 or 21"),
        ("0:20:0", "step is 0"),
        ("20:0:2", "leads away"),
        ("0:20", "start:stop:step"),
        ("0:1:2:3", "start:stop:step"),
        ("a,b", "not a number"),
        ("", "not a number"),
        ("1,,2", "not a number"),
        ("nan", "not a number"),
        ("inf", "not a number"),
        ("0:inf:2", "not a number"),
        ("4,2,4.0", "named twice"),
        ("0:100:0.001", "at most"),
        ("1000", "beyond"),
        ([], "no SNR"),
    ],
)
def test_bad_snr(text, words):
    with pytest.raises(UserError, match=words):
        parse_snr(text)


def test_budgets():
    assert parse_cbr("1/16") == parse_cbr(0.0625) == 0.0625
    assert parse_kbits("20") == parse_kbits(20) == 20_000
    assert parse_kbits("0.5") == 500
    for wrong in ("0", "-1/16", "1/0", "x", "5", "nan", "inf"):
        with pytest.raises(UserError):
            parse_cbr(wrong)
    for wrong in ("0", "-3", "1/3", "x"):
        with pytest.raises(UserError):
            parse_kbits(wrong)


def test_the_papers_figures_are_complete():
    import baselines  # noqa: F401

    assert paper_figures() == ["fig4", "fig5", "fig7"]
    for name in paper_figures():
        figure = load_figure(name)
        assert figure.id == name
        assert all(figure.task in registry.tasks_of(system) for system in figure.systems)
        assert set(figure.pictures.snr_db) <= set(figure.snr_db)
        assert figure.snr_db == tuple(range(0, 21, 2))
    assert load_figure("fig7").bits == 20_000
    equal = load_figure("fig7-uses")  # the same systems, compared at equal uses instead of equal bits
    assert (equal.uses, equal.bits, equal.cbr) == (5000, None, None)
    assert equal.systems == load_figure("fig7").systems
    assert {equal.budget(224, 224).allowed_uses(bits) for bits in (None, 2, 4, 6)} == {5000}
    assert [load_figure("fig7").budget(224, 224).allowed_uses(bits) for bits in (None, 2, 4, 6)] == [
        5000, 10_000, 5000, 3333,
    ]  # fmt: skip
    assert load_figure("fig4").cbr == load_figure("fig5").cbr == 1 / 16
    assert load_figure("fig5").pictures.id == "fig6" and load_figure("fig5").pictures.snr_db == (4, 18)


def test_figures_beyond_the_paper_are_asked_for_by_name():
    import baselines  # noqa: F401

    for name in set(figure_names()) - set(paper_figures()):
        figures = load_figures(name)
        assert {figure.budgets_of or figure.id for figure in figures} == {name}
        assert all(figure.task in registry.tasks_of(system) for figure in figures for system in figure.systems)


@pytest.mark.parametrize("rules", [{}, {"cbr": 1 / 16, "bits": 20_000}, {"bits": 20_000, "uses": 5000}])
def test_a_budget_has_exactly_one_rule(rules):
    with pytest.raises(ValueError, match="exactly one of cbr, bits and uses"):
        budget_of("awgn", 64, 64, **rules)


def test_fig7_gives_equal_bits_and_fig7_uses_equal_uses():
    (bits,), (uses,) = load_figures("fig7"), load_figures("fig7-uses")
    assert (bits.bits, bits.uses, uses.bits) == (20_000, None, None) and uses.uses
    assert bits.systems == uses.systems
    for figure, allowed in ((bits, {None: 5000, 4: 5000, 6: 3333}), (uses, dict.fromkeys((None, 4, 6), uses.uses))):
        budget = budget_of("awgn", 64, 64, bits=figure.bits, uses=figure.uses)
        assert {per_use: budget.allowed_uses(per_use) for per_use in allowed} == allowed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sytems": []}, "unknown key sytems; did you mean systems"),
        ({"task": "compression"}, "unknown task"),
        ({"kbits": 20}, "one of the three"),
        ({"cbr": None}, "one of the three"),
        ({"metric": "miou"}, "metric 'miou'"),
        ({"channel": "awng"}, "did you mean awgn"),
        ({"snr_db": "0:20:3"}, "do not reach"),
        ({"systems": "linear"}, "list of names"),
        ({"systems": []}, "list of names"),
        ({"id": "a/b"}, "names files"),
        ({"id": 4}, "must be a text"),
        ({"dataset": None}, "dataset is missing"),
        ({"reps": 0}, "reps"),
        ({"reps": "many"}, "reps"),
        ({"pictures": {"snr": [18]}}, "unknown key snr"),
        ({"pictures": {"snr_db": []}}, "no SNR"),
        ({"pictures": 18}, "table"),
        ({"pictures": {"snr_db": [18], "limit": "3"}}, "limit must be a whole number"),
        ({"pictures": {"snr_db": [18], "limit": [3]}}, "limit must be a whole number"),
        ({"pictures": {"snr_db": [18], "limit": True}}, "limit must be a whole number"),
        ({"pictures": {"snr_db": [18], "limit": 0}}, "limit must be a whole number"),
        ({"pictures": {"snr_db": [17]}}, "points of the sweep"),
        ({"pictures": {"snr_db": [18], "id": "../x"}}, "names files"),
        ({"pictures": {"snr_db": [18], "id": 6}}, "id must be a text"),
        ({"pictures": {"snr_db": [18], "id": ["a"]}}, "id must be a text"),
    ],
)
def test_bad_figure_files_name_the_file_and_the_fault(change, words):
    values = {key: value for key, value in {**FIGURE, **change}.items() if value is not None}
    with pytest.raises(UserError, match=words) as caught:
        read_figure(values, "my.toml")
    assert str(caught.value).startswith("my.toml: ") and "\n" not in str(caught.value)


def test_a_figure_is_a_file_of_the_user(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('id="mine"\ntask="reconstruction"\ndataset="photos"\nsystems=["linear"]\ncbr="1/12"\nsnr_db=[3]\n')
    figure = load_figure(str(path))
    assert (figure.id, figure.snr_db, figure.cbr) == ("mine", (3,), 1 / 12)
    path.write_text("id = ")
    with pytest.raises(UserError, match="not valid TOML"):
        load_figure(str(path))
    path.write_bytes(b'id = "\xff\xfe"')
    with pytest.raises(UserError, match="mine.toml"):
        load_figure(str(path))
    with pytest.raises(UserError, match="use --figure fig5"):
        load_figure("fig6")
    with pytest.raises(UserError, match="No such file"):
        load_figure(str(tmp_path / "none.toml"))
    with pytest.raises(UserError, match="did you mean fig4"):
        load_figure("fig4a")


def test_a_list_of_budgets_is_a_figure_of_each(tmp_path):
    path = tmp_path / "b.toml"
    text = 'id="b"\ntask="segmentation"\ndataset="voc-demo"\nsystems=["gensc"]\nsnr_db=[10]\n'
    path.write_text(text + "kbits=[5, 2.5]\n")
    figures = load_figures(str(path))
    assert [(figure.id, figure.bits, figure.budgets_of) for figure in figures] == [
        ("b-5k", 5000, "b"),
        ("b-2_5k", 2500, "b"),
    ]
    with pytest.raises(UserError, match="one budget is needed"):
        load_figure(str(path))
    with pytest.raises(UserError, match="--kbits has no effect"):
        resolve(Request(figures=(str(path),), kbits=20))
    for faulty, words in (
        ("kbits=[]\n", "must hold 1 to 100"),
        ("kbits=[5]\n[pictures]\nsnr_db=[10]\n", "cannot be combined with"),
        ("kbits=[0]\n", "at least 1"),
    ):
        path.write_text(text + faulty)
        with pytest.raises(UserError, match=words):
            load_figures(str(path))
    path.write_text(text.replace('id="b"\n', "") + "kbits=[5]\n")
    with pytest.raises(UserError, match="id"):
        load_figures(str(path))


def test_pictures_follow_the_sweep():
    figure = load_figure("fig5")
    assert with_snr(figure, (0, 18)).pictures.snr_db == (0, 18)
    assert with_snr(figure, (10, 15)).pictures.snr_db == (10, 15)
    assert with_snr(figure, (15, 20)).pictures.snr_db == (15, 20)
    assert with_snr(figure, (10,)).pictures.snr_db == (10,)


def test_a_plan_that_nothing_can_hold_is_refused_before_it_is_made(tmp_path):
    path = tmp_path / "b.toml"
    text = 'id="b"\ntask="reconstruction"\ndataset="photos"\nsystems=["linear"]\ncbr="1/16"\n'
    path.write_text(text + 'snr_db="0:199.8:0.2"\nreps=10000\n')
    with pytest.raises(UserError, match="10000000 cells, .* in figure b; at most 2000000"):
        resolve(Request(figures=(str(path),)))


def test_what_a_file_leaves_out_is_what_list_keys_says():
    read = read_figure({**FIGURE, "pictures": {"snr_db": [4]}}, "mine.toml")
    said = {name: kind for name, kind, _ in (*key_lines(FIGURE_KEYS), *key_lines(PICTURE_KEYS))}
    assert (read.snr_db, said["snr_db"]) == (tuple(range(0, 21, 2)), "SNRs, required")  # of [pictures]
    assert (read.channel, read.reps, read.pictures.limit, read.pictures.id) == ("awgn", 1, 3, "mine")
    for key, value in (("channel", "awgn"), ("reps", "1"), ("limit", "3"), ("title", "the id")):
        assert said[key].endswith(f" [{value}]")
