"""Tests of figures: drawings are checked as numbers and as matplotlib objects, files as files."""

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from harness import call
from made_run import SNRS, figure, make_run, without_means
from PIL import Image

from bench.analysis.undertrained import undertrained
from bench.report import draw_all, paper_sheet, system_looks
from bench.report.charts import Chart, draw_chart, tick_values
from bench.report.curves import Series, bands_overlap, differences_of, series_of
from bench.report.figure_kinds import KINDS
from bench.report.figures import draw_run, jobs_of
from bench.report.gallery import Block, Tile, detail_window, draw_gallery, error_map, error_scale
from bench.report.html.build import report_data
from bench.report.options import Options, parse_formats, parse_labels, parse_limits
from bench.report.segmentation import Example, classes_shown, overlay
from bench.results.reader import Run
from bench.results.schema import FAILURE_COLUMNS
from bench.results.store import RunStore
from systems.errors import UserError

FIG4 = ["gensc", "witt", "adjscc", "deepjscc", "jpeg-ldpc-16qam", "jpeg-ldpc-64qam", "linear"]
FIG7 = ["gensc", "deeplab-jscc", "jpeg-ldpc-16qam-fcn", "jpeg-ldpc-64qam-fcn"]
CLIFF = {"16qam": 12, "64qam": 18}


def value(figure, system, snr, index):
    for modulation, cliff in CLIFF.items():
        if modulation in system and snr < cliff:
            return "outage"
    order = system_looks.style_of(system).order
    if figure["task"] == "segmentation":
        return 0.8 - 0.1 * order / 5 + 0.01 * (index % 3)
    return 26 + 0.4 * snr - 0.3 * order + 0.5 * index


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run with three figures of eight pictures, made once; tests that write use a folder of their own."""
    figures = [
        figure("fig4", FIG4),
        figure("fig5", FIG4) | {"pictures": {"id": "fig6", "snr_db": [4.0, 18.0], "limit": 2}},
        figure("fig7", FIG7, task="segmentation", pictures=[6.0, 18.0]),
    ]
    return make_run(
        tmp_path_factory.mktemp("runs") / "made",
        figures,
        value,
        systems={"witt": {"undertrained": True}},
        datasets={"set-fig7": {"demonstration": True}},
    )


@pytest.fixture(scope="module")
def small_dir(tmp_path_factory):
    """One figure of two systems at three SNRs."""
    spec = figure("fig4", ["gensc", "linear"], snrs=[0.0, 10.0, 20.0])
    return make_run(tmp_path_factory.mktemp("runs") / "made", [spec], value)


# ---------------------------------------------------------------- series


def curves_of(run_dir, name="fig4", metric="psnr_db"):
    run = Run.open(run_dir)
    figure = next(e for e in run.figures if e["id"] == name)
    return {curve.system: curve for curve in series_of(run.summary_of(figure), metric, undertrained(run))}


def drawings(run_dir, name, options=None, overlays=None):
    """The matplotlib figures that a figure's kind makes, by file name."""
    job, kind = jobs_of(Run.open(run_dir), options, overlays)[name]
    with paper_sheet.drawing():
        return {drawing.name: (drawing.sheet.finish(), drawing.words) for drawing in kind(job)}, job


def test_series_hold_the_tables_means(run_dir):
    curve = curves_of(run_dir)["gensc"]
    expected = [np.mean([value({"task": "reconstruction"}, "gensc", snr, i) for i in range(8)]) for snr in SNRS]
    assert curve.x.tolist() == SNRS
    np.testing.assert_allclose(curve.mean, expected, rtol=1e-12)
    assert (curve.low < curve.mean).all() and (curve.mean < curve.high).all()


@pytest.mark.parametrize(("name", "metric", "suffix"), [("fig4", "psnr_db", ""), ("fig7", "miou", "-fcn")])
def test_digital_curves_start_where_they_decode(run_dir, name, metric, suffix):
    curves = curves_of(run_dir, name, metric)
    for modulation, cliff in CLIFF.items():
        curve = curves[f"jpeg-ldpc-{modulation}{suffix}"]
        assert np.isnan(curve.mean[curve.x < cliff]).all()
        assert not np.isnan(curve.mean[curve.x >= cliff]).any()
        assert curve.cliff == (cliff - 2, cliff)
    assert curves["gensc"].cliff is None


def test_a_cliff_lies_between_two_points_of_the_grid(tmp_path):
    def some(figure, system, snr, index):
        return "outage" if snr < 12 else 30.0

    run_dir = make_run(
        tmp_path / "run", [figure("fig4", ["jpeg-ldpc-16qam", "gensc"], snrs=[0.0, 5.0, 10.0, 15.0, 20.0])], some
    )
    (canvas, _), *_ = drawings(run_dir, "fig4")[0].values()
    assert "between 10 and 15 dB" in [t.get_text() for t in canvas.axes[0].texts]


def test_one_lost_picture_breaks_the_curve_and_a_missing_point_is_a_gap(tmp_path):
    def some(figure, system, snr, index):
        if system == "deepjscc" and snr == 8:
            return None
        if system == "jpeg-ldpc-16qam" and (snr < 12 or (snr == 16 and index == 3)):
            return "outage"
        return 30.0 + index

    run_dir = make_run(tmp_path / "run", [figure("fig4", ["deepjscc", "jpeg-ldpc-16qam"])], some)
    curves = curves_of(run_dir)
    assert curves["deepjscc"].state[SNRS.index(8)] == "missing" and np.isnan(curves["deepjscc"].mean[SNRS.index(8)])
    assert curves["jpeg-ldpc-16qam"].state[SNRS.index(16)] == "outage"
    assert np.isnan(curves["jpeg-ldpc-16qam"].mean[SNRS.index(16)])
    assert not (np.concatenate([curve.mean for curve in curves.values()]) == 0).any()
    (canvas, _), *_ = drawings(run_dir, "fig4")[0].values()
    drawn = {line.get_label(): line.get_ydata() for line in canvas.axes[0].get_lines()}
    assert np.isnan(drawn["Deep JSCC"][SNRS.index(8)])
    np.testing.assert_array_equal(drawn["JPEG+LDPC+16QAM"], curves["jpeg-ldpc-16qam"].mean)


def test_in_a_fade_lost_pictures_are_scored_and_their_share_has_a_panel(tmp_path):
    """At 0 dB half of the pictures are lost, at 20 dB none. The curve shows the mean in which lost pictures count as
    grey.
    """

    def some(figure, system, snr, index):
        if system != "gensc" and snr == 0 and index % 2:
            return "outage"
        return 0.5 + index / 100 if figure["task"] == "segmentation" else 30.0 + index

    snrs = [0.0, 10.0, 20.0]
    run_dir = make_run(
        tmp_path / "run", [figure("fig4", ["gensc", "jpeg-ldpc-16qam"], snrs=snrs, channel="rayleigh-block")], some
    )
    (canvas, words), *_ = drawings(run_dir, "fig4")[0].values()
    summary = Run.open(run_dir).summary
    rows = summary[(summary["system"] == "jpeg-ldpc-16qam") & (summary["snr_db"] == 0)].set_index("metric")["mean"]
    lines = {line.get_label(): line for line in canvas.axes[0].get_lines()}
    assert lines["JPEG+LDPC+16QAM"].get_ydata()[0] == rows["psnr_db"] < 30
    assert "lost pictures are scored as mid-grey" in words
    labels = figure("fig7", ["gensc", "jpeg-ldpc-16qam-fcn"], task="segmentation", snrs=snrs, channel="rayleigh-block")
    (_, words), *_ = drawings(make_run(tmp_path / "labels", [labels], some), "fig7")[0].values()
    assert "lost pictures are scored as background" in words
    panel = next(axes for axes in canvas.axes if axes.get_ylabel() == "Outages (%)")
    rates = {line.get_label(): list(line.get_ydata()) for line in panel.get_lines()}
    assert rates["JPEG+LDPC+16QAM"] == [50, 0, 0] and rates["GenSC"] == [0, 0, 0]


# ---------------------------------------------------------------- ink


def test_ink_matches_style_and_marks_undertrained(run_dir):
    (canvas, _), *_ = drawings(run_dir, "fig4")[0].values()
    lines = {line.get_label(): line for line in canvas.axes[0].get_lines()}
    legend = [text.get_text() for text in canvas.legends[0].get_texts()]
    assert legend[0] == "GenSC" and "WITT (undertrained)" in legend and len(legend) == len(FIG4)
    assert lines["WITT (undertrained)"].get_linewidth() == lines["ADJSCC"].get_linewidth()  # wider than a hairline
    assert lines["WITT (undertrained)"].get_markerfacecolor() == "white"
    for system in FIG4:
        look = system_looks.style_of(system)
        line = lines[look.label + (" (undertrained)" if system == "witt" else "")]
        assert line.get_color() == look.colour and line.get_marker() == look.marker


def test_every_curve_has_a_name_in_the_legend(run_dir):
    """matplotlib leaves out labels that begin with an underscore."""
    summary = Run.open(run_dir).summary
    rows = summary[(summary["dataset"] == "set-fig4") & (summary["system"] == "gensc")]
    told = {"hidden": {"label": "_x"}}
    chart = Chart(
        "psnr_db", series_of(rows.assign(system="hidden"), "psnr_db"), looks=system_looks.looks_of(told, told)
    )
    with paper_sheet.drawing():
        legend = [text.get_text() for text in draw_chart(chart).finish().legends[0].get_texts()]
    assert [text.strip() for text in legend] == ["_x (hidden)"]


def test_two_variants_of_a_system_are_told_apart(run_dir):
    summary = Run.open(run_dir).summary
    rows = summary[(summary["dataset"] == "set-fig4") & (summary["system"] == "gensc")]
    both = series_of(pd.concat([rows, rows.assign(variant="paper-2")]), "psnr_db")
    with paper_sheet.drawing():
        legend = [text.get_text() for text in draw_chart(Chart("psnr_db", both)).finish().legends[0].get_texts()]
    assert sorted(legend) == ["GenSC [paper-2]", "GenSC [small-1]"]


def pixels_of(canvas, colour):
    """How many pixels of a drawn figure have a colour, with a tolerance for blended edges."""
    canvas.set_dpi(200)
    canvas.draw_without_rendering()
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    agg = FigureCanvasAgg(canvas)
    agg.draw()
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(np.asarray(agg.buffer_rgba())[..., :3].astype(int) - wanted).max(axis=2) < 12).sum())


def test_a_curve_under_another_stays_visible(tmp_path):
    """Two systems have equal numbers; the lower curve shows on both sides of the upper one."""
    run_dir = make_run(
        tmp_path / "run", [figure("fig4", ["gensc", "jpeg-ldpc-64qam"])], lambda e, s, snr, i: 26 + 0.4 * snr + i
    )
    (canvas, _), *_ = drawings(run_dir, "fig4", Options(relative_to=""))[0].values()
    canvas.legends[0].remove()
    for system in ("gensc", "jpeg-ldpc-64qam"):
        assert pixels_of(canvas, system_looks.style_of(system).colour) > 600, system


def test_bands_that_overlap_give_way_to_paired_differences(tmp_path):
    """Pictures differ by 7 dB, systems by 0.5 dB on each picture. The bands overlap, although the paired difference is
    certain.
    """

    def some(figure, system, snr, index):
        return 26 + index + 0.5 * (system == "gensc") + 0.01 * (index % 2)

    run_dir = make_run(tmp_path / "run", [figure("fig4", ["gensc", "witt"])], some)
    (canvas, words), *_ = drawings(run_dir, "fig4")[0].values()
    assert not canvas.axes[0].collections and "GenSC" in canvas.axes[1].get_ylabel()
    assert any("paired over images" in word for word in words) and not any("bands" in word for word in words)
    run = Run.open(run_dir)
    curves = series_of(run.summary, "psnr_db")
    assert bands_overlap(curves)
    (gap,) = differences_of({"": run}, run.figures, curves, "psnr_db", "gensc")
    np.testing.assert_allclose(gap.mean, -0.5, atol=1e-9)
    np.testing.assert_allclose((gap.low, gap.high), -0.5, atol=1e-6)
    far = make_run(
        tmp_path / "far", [figure("fig4", ["gensc", "witt"])], lambda e, s, snr, i: 20 + 0.1 * i + 15 * (s == "gensc")
    )
    (canvas, words), *_ = drawings(far, "fig4")[0].values()
    assert len(canvas.axes) == 1 and canvas.axes[0].collections and any("bands" in word for word in words)
    for bands, drawn in ((True, True), (False, False)):
        (canvas, _), *_ = drawings(run_dir, "fig4", Options(bands=bands))[0].values()
        assert bool(canvas.axes[0].collections) is drawn and len(canvas.axes) == 1
    (canvas, _), *_ = drawings(run_dir, "fig4", Options(relative_to="witt"))[0].values()
    gap, *_ = [line.get_ydata() for line in canvas.axes[1].get_lines() if line.get_marker() == "o"]
    np.testing.assert_allclose(gap, 0.5)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("GenSC", "Δ to GenSC (his) (dB)"),
        ("His", "Δ to His (dB)"),
        ("Our GenSC, retrained", "Δ to Our GenSC,\nretrained (his) (dB)"),
        ("GenSC, the weights of its paper, and all the rest", "Δ (dB)"),  # the footnote says what it is
    ],
)
def test_the_axis_of_differences_says_whose_system_the_reference_is(tmp_path, label, words):
    """Without the bracket, differences to a third party's "GenSC (his)" would be differences to ours."""
    facts = {"his": {"label": label, "plugin": True}}
    run_dir = make_run(
        tmp_path / "run",
        [figure("fig4", ["gensc", "his"])],
        lambda e, s, snr, i: 26.0 + i + (s == "his"),
        systems=facts,
    )
    (canvas, notes), *_ = drawings(run_dir, "fig4", Options(relative_to="his"))[0].values()
    assert canvas.axes[1].get_ylabel() == words
    whole = label if label == "His" else f"{label} (his)"
    assert any(f"difference to {whole}, paired" in note for note in notes)


def test_ticks_stand_at_the_runs_points():
    assert tick_values(SNRS) == SNRS
    assert tick_values([float(x) for x in range(31)]) == [float(x) for x in range(0, 31, 3)]
    assert tick_values([0.0, 0.5, 1.0, 1.5, 2.0]) == [0.0, 1.0, 2.0]
    assert tick_values([1 / 48, 1 / 24, 1 / 16]) == [1 / 48, 1 / 24, 1 / 16]


def test_axes_end_where_the_metric_does(run_dir):
    axes = drawings(run_dir, "fig4")[0]["fig4"][0].axes
    assert [t.get_text() for t in axes[-1].get_xticklabels()] == [f"{snr:g}" for snr in SNRS]
    assert all(float(tick) == round(float(tick)) for tick in axes[0].get_yticks())
    curves = series_of(Run.open(run_dir).summary.query("dataset == 'set-fig4'"), "psnr_db")
    near = [
        type(c)(**{**vars(c), "mean": 0.9 + c.mean / 1000, "low": 0.9 + c.low / 1000, "high": 0.97 + c.high / 1000})
        for c in curves
    ]
    with paper_sheet.drawing():
        assert draw_chart(Chart("ms_ssim", near)).figure.axes[0].get_ylim()[1] == 1.0
        low = draw_chart(Chart("psnr_db", curves, ylim=(10.0, 50.0))).figure.axes[0].get_ylim()
    assert low == (10, 50)
    fig7 = drawings(run_dir, "fig7")[0]["fig7"][0].axes[0].get_ylim()
    means = Run.open(run_dir).summary.query("metric == 'miou'")["mean"].dropna() * 100
    assert means.min() - 4 < fig7[0] <= means[means > 30].min() and fig7[1] <= 100


def test_budgets_side_by_side_are_a_curve_over_the_budget(tmp_path):
    """The value of each budget stands over its kilobits; each SNR has a figure of its own."""
    group = [figure(f"b-{k}k", ["gensc", "deeplab-jscc"], task="segmentation", snrs=[0.0, 10.0], dataset="set-b",
                    bits=1000 * k, budgets_of="b") for k in (5, 20)]  # fmt: skip
    run_dir = make_run(tmp_path / "run", group, lambda e, s, snr, i: e["bits"] / 40000 + snr / 100)
    assert list(drawings(run_dir, "b")[0]) == ["b-0dB", "b-10dB"]
    run = Run.open(run_dir)
    rows = run.summary.assign(kbits=run.summary["bits_target"] / 1000)
    curves = series_of(rows[rows["snr_db"] == 10], "miou", along="kbits")
    assert [curve.system for curve in curves] == ["gensc", "deeplab-jscc"]
    for curve in curves:
        assert curve.x.tolist() == [5, 20]
        # the share e["bits"] / 40000 + 0.1 of class 15 is found; the rest is labelled background
        share = np.array([0.225, 0.6])
        np.testing.assert_allclose(curve.mean, 50 * (share + 1 / (2 - share)), rtol=1e-9)


def test_a_cbr_axis_is_labelled_in_ratios(tmp_path):
    group = [figure(f"b-1_{k}", ["gensc", "linear"], snrs=[10.0], dataset="kodak", cbr=1 / k, budgets_of="b")
             for k in (48, 24, 16)]  # fmt: skip
    run_dir = make_run(tmp_path / "run", group, lambda e, s, snr, i: 30 + 100 * e["cbr"] + i)
    canvas, words = drawings(run_dir, "b")[0]["b"]
    assert [t.get_text() for t in canvas.axes[-1].get_xticklabels()] == ["1/48", "1/24", "1/16"]
    # For Kodak over the budget at 10 dB two published curves exist; the figure names them and states their source.
    assert {"WITT, published", "Deep JSCC, in WITT's paper"} <= {t.get_text() for t in canvas.legends[0].get_texts()}
    assert any("KeYang8/WITT" in word for word in words)


def test_published_curves_stand_beside_the_same_set_channel_and_budget_alone(tmp_path):
    def texts(**changes):
        spec = figure("fig5", ["gensc", "linear"], **{"dataset": "kodak", **changes})
        run_dir = make_run(tmp_path / "-".join(map(str, changes.values())), [spec], lambda e, s, snr, i: 30.0 + i)
        canvas, words = drawings(run_dir, "fig5")[0]["fig5"]
        lines = [line for line in canvas.axes[0].get_lines() if line.get_linewidth() < 0.8]
        return [t.get_text() for t in canvas.legends[0].get_texts()], words, lines

    labels, words, lines = texts(cbr=1 / 16)
    assert len(lines) == 4 and "SwinJSCC, official weights" in labels
    assert len({str(line._unscaled_dash_pattern) for line in lines}) == 4  # told apart without colours
    assert any("trained and measured elsewhere" in word and "2460db5" in word for word in words)
    for changes in ({"cbr": 1 / 12}, {"channel": "rayleigh-fast"}, {"dataset": "photos"}):
        assert texts(**changes)[2] == []


# ---------------------------------------------------------------- files


def test_draw_all_writes_every_figure_and_table(run_dir):
    written = draw_all(run_dir)
    names = {path.relative_to(run_dir).as_posix() for path in written}
    for name in ("fig4", "fig5", "fig6", "fig7"):
        assert {f"figures/{name}.png", f"figures/{name}.pdf"} <= names
    assert {"tables/overheads.csv", "tables/overheads.md", "tables/results-fig4.csv", "tables/claims.md"} <= names
    for path in written:
        assert path.stat().st_size > 0
    with Image.open(run_dir / "figures" / "fig4.png") as picture:
        assert picture.info["dpi"][0] == pytest.approx(200, abs=0.1)
        assert abs(picture.width - 700) <= 1  # a column of 3.5 inches
        pixels = np.asarray(picture.convert("RGB"))
    # The curves are drawn in their colours.
    for system in ("gensc", "adjscc"):
        colour = [int(system_looks.style_of(system).colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(pixels.astype(int) - colour).max(axis=2) < 6).sum() > 100
    assert (run_dir / "figures" / "fig4.pdf").read_bytes().startswith(b"%PDF")


def test_equal_tables_give_equal_files(small_dir, tmp_path):
    options = {"formats": ("png", "pdf", "svg")}
    first, second = (
        [p.read_bytes() for p in draw_all(small_dir, ["fig4"], out=tmp_path / name, **options)] for name in ("a", "b")
    )
    assert first == second and len(first) == 3


def test_provenance_is_in_the_files_and_the_caption_can_go(small_dir, tmp_path):
    png, pdf, svg = draw_all(small_dir, ["fig4"], out=tmp_path, formats=("png", "pdf", "svg"), caption=False)
    with Image.open(png) as picture:
        assert "run made" in picture.text["Description"] and "CBR 1/16" in picture.text["Description"]
        high = picture.height
    assert b"run made" in pdf.read_bytes() or b"/Subject" in pdf.read_bytes()
    assert "run made" in svg.read_text() and "dc:date" not in svg.read_text()
    (again,) = draw_all(small_dir, ["fig4"], out=tmp_path / "with", formats=("png",))
    with Image.open(again) as picture:
        assert picture.height > high


def test_ieee_is_one_column_of_closed_axes_with_ticks_inward(small_dir, tmp_path):
    (png,) = draw_all(small_dir, ["fig4"], out=tmp_path, formats=("png",), style="ieee")
    with Image.open(png) as picture:
        assert abs(picture.width - 2100) <= 1 and picture.info["dpi"][0] == pytest.approx(600, abs=0.1)
    job, kind = jobs_of(Run.open(small_dir))["fig4"]
    with paper_sheet.drawing("ieee"):
        canvas = kind(job)[0].sheet.finish()
        axes = canvas.axes[0]
        assert all(axes.spines[side].get_visible() for side in ("top", "right", "bottom", "left"))
        tick = axes.xaxis.get_major_ticks()[0]
        assert tick.get_tickdir() == "in" and tick.tick2line.get_visible()
        family = axes.xaxis.label.get_fontfamily()
    assert family[0] in paper_sheet._TIMES[:-1]


def test_a_small_png_of_photographs_has_a_palette(run_dir, tmp_path):
    large, small = (
        draw_all(run_dir, ["fig6"], out=tmp_path / str(small), formats=("png",), small=small)[0]
        for small in (False, True)
    )
    assert small.stat().st_size < large.stat().st_size / 2
    with Image.open(small) as picture:
        assert picture.mode == "P" and picture.info["dpi"][0] == pytest.approx(100, abs=0.1)
        assert "run made" in picture.text["Description"]


def test_out_gets_the_figures_alone(small_dir, tmp_path):
    before = {p: p.stat().st_mtime_ns for p in small_dir.rglob("*") if p.is_file()}
    written = draw_all(small_dir, out=tmp_path / "new" / "folder", formats=("svg",))
    assert {p.suffix for p in written} == {".svg"} and {p.parent for p in written} == {tmp_path / "new" / "folder"}
    assert before == {p: p.stat().st_mtime_ns for p in small_dir.rglob("*") if p.is_file()}


def test_systems_labels_and_limits_are_the_users(run_dir):
    options = Options(systems=("linear", "gensc"), labels={"gensc": "Ours"}, ylim=(20.0, 40.0), highlight=("linear",))
    canvas, _ = drawings(run_dir, "fig4", options)[0]["fig4"]
    assert [t.get_text() for t in canvas.legends[0].get_texts()] == ["Linear (block KLT)", "Ours"]
    assert canvas.axes[0].get_ylim() == (20, 40)
    lines = {line.get_label(): line for line in canvas.axes[0].get_lines()}
    assert lines["Linear (block KLT)"].get_linewidth() > lines["Ours"].get_linewidth()


def test_the_figures_file_says_how_it_is_drawn(tmp_path):
    look = {"order": ["mine"], "label": {"mine": "My codec"}, "colour": {"mine": "#AA3377"}, "ylim": [0, 60]}
    run_dir = make_run(tmp_path / "run", [figure("mine", ["gensc", "mine"], look=look)], value)
    canvas, _ = drawings(run_dir, "mine")[0]["mine"]
    assert [t.get_text() for t in canvas.legends[0].get_texts()] == ["My codec", "GenSC"]
    assert canvas.axes[0].get_lines()[0].get_color() == "#AA3377"
    plain = drawings(make_run(tmp_path / "plain", [figure("mine", ["gensc", "mine"])], value), "mine")[0]["mine"]
    low, high = plain[0].axes[0].get_ylim()
    assert canvas.axes[0].get_ylim() == (min(low, max(0, 2 * low - high)), max(high, min(60, 2 * high - low)))
    canvas, _ = drawings(run_dir, "mine", Options(ylim=(10.0, 50.0), labels={"mine": "L"}))[0]["mine"]
    assert canvas.axes[0].get_ylim() == (10, 50) and canvas.legends[0].get_texts()[0].get_text() == "L"


def test_a_file_hides_no_curve_by_the_limits_of_its_axis(tmp_path):
    """The user's own `--ylim` does what it says. A file may come from somebody else."""
    own = make_run(tmp_path / "own", [figure("mine", ["gensc", "mine"])], value)
    low, high = drawings(own, "mine")[0]["mine"][0].axes[0].get_ylim()
    for place, wish in enumerate(([low + 1, high - 1], [low, low + 0.1])):
        narrow = make_run(tmp_path / f"{place}", [figure("mine", ["gensc", "mine"], look={"ylim": wish})], value)
        assert drawings(narrow, "mine")[0]["mine"][0].axes[0].get_ylim() == (low, high)
    assert drawings(own, "mine", Options(ylim=(low, low + 1.0)))[0]["mine"][0].axes[0].get_ylim() == (low, low + 1)


def test_the_footnote_says_where_a_system_loses_pictures_above_where_it_delivers_all(tmp_path):
    """Below its cliff a digital system has no point either. A system that loses pictures above it does so by itself."""

    def lost(figure, system, snr, index):
        if system == "mine" and snr > 4 and index == 0 or system == "jpeg-ldpc-16qam" and snr < 12:
            return "outage"
        return value(figure, system, snr, index)

    run_dir = make_run(tmp_path / "run", [figure("fig4", ["gensc", "mine", "jpeg-ldpc-16qam"])], lost)
    canvas, words = drawings(run_dir, "fig4")[0]["fig4"]
    assert "no points where pictures were lost" in words and "mine loses pictures above 4 too" in words
    assert not any("16QAM loses" in word for word in words)
    run_dir = make_run(tmp_path / "good", [figure("fig4", ["gensc", "mine"])], value)
    assert not any("lost" in word for word in drawings(run_dir, "fig4")[0]["fig4"][1])


def test_an_overlay_whose_pictures_are_not_known_is_named(tmp_path):
    """Without hashes in a manifest the curves may be of other pictures."""
    runs = {}
    for name, told in {"here": {"fingerprint": "1"}, "same": {"fingerprint": "1"}, "silent": {}}.items():
        shown = [figure("fig4", ["gensc"], dataset="set")]
        runs[name] = Run.open(make_run(tmp_path / name, shown, value, datasets={"set": told}))
    for name, known in {"same": True, "silent": False}.items():
        job, _ = jobs_of(runs["here"], None, {name: (runs[name], None)})["fig4"]
        assert any(f"whether {name} has the same pictures" in note for note in job.notes) is not known


def test_another_run_lies_over_the_first(run_dir, tmp_path):
    other = make_run(tmp_path / "second", [figure("other-id", ["gensc", "witt"], dataset="set-fig4")],
                     lambda e, s, snr, i: value(e, s, snr, i) + 1.0)  # fmt: skip
    drawn = draw_run(run_dir, ["fig4"], Options(out=tmp_path / "out", formats=("svg",)), [(other, "gensc")])
    assert [p.name for p in drawn.files] == ["fig4.svg"]
    overlays = {"second": (Run.open(other), ("gensc",))}
    canvas, words = drawings(run_dir, "fig4", Options(relative_to="gensc"), overlays)[0]["fig4"]
    legend = [t.get_text() for t in canvas.legends[0].get_texts()]
    assert "GenSC (second)" in legend and "WITT (second)" not in legend and any("second" in word for word in words)
    lines = [line for line in canvas.axes[1].get_lines() if line.get_marker() == "o" and len(line.get_ydata()) == 11]
    gaps = [line for line in lines if np.allclose(line.get_ydata(), 1)]
    assert len(gaps) == 1  # the same pictures under the same noise, 1 dB better
    with pytest.raises(UserError, match="did you mean gensc"):
        draw_run(run_dir, ["fig4"], None, [(other, "gens")])
    for overlays in ([(run_dir, "")], [(run_dir, "gensc")], [(other, ""), (other, "")]):
        with pytest.raises(UserError, match="this run is named twice"):
            draw_run(run_dir, ["fig4"], None, overlays)


def test_a_system_without_a_value_is_named_so_in_the_legend(tmp_path):
    folder = make_run(tmp_path / "run", [figure("fig4", ["gensc", "linear"], snrs=[0.0, 10.0])], value)
    without_means(folder, [("linear", 0.0), ("linear", 10.0)])
    canvas, _ = drawings(folder, "fig4")[0]["fig4"]
    legend = [t.get_text().replace("\n", " ") for t in canvas.legends[0].get_texts()]
    assert legend == ["GenSC", "Linear (block KLT) (no value)"]


def test_an_overlay_keeps_its_marks(small_dir, tmp_path):
    """A network of another run that was trained too little, and a trial, look no better than in their own figure."""
    spec = figure("fig4", ["gensc"], snrs=[0.0, 10.0, 20.0])
    other = make_run(tmp_path / "second", [spec], value, systems={"gensc": {"undertrained": True}}, limited=True)
    canvas, words = drawings(small_dir, "fig4", None, {"second": (Run.open(other), None)})[0]["fig4"]
    legend = [t.get_text().replace("\n", " ") for t in canvas.legends[0].get_texts()]
    assert "GenSC" in legend and "GenSC (second) (undertrained)" in legend
    assert any("second (LIMITED)" in word for word in words)


@pytest.mark.parametrize("key, values", [("uses", (2000, 9000)), ("requirement", ("Send it.", "Show it."))])
def test_an_overlay_was_asked_for_the_same(tmp_path, key, values):
    """The curve of a system would stand beside one with a fraction of the uses, or that was asked for something else:
    also if its run has a figure with our budget too, in which it does not appear.
    """
    runs = {}
    for name, own in {"first": [0], "same": [0], "other": [1], "both": [0, 1]}.items():
        shown = [figure(f"mine-{place}", [("linear", "other")[place]], cbr=None, dataset="set", **{key: values[place]})
                 for place in own]  # fmt: skip
        if len(shown) > 1 and key == "requirement":
            continue  # no run has two for one point
        told = {"set": {"fingerprint": "1"}}
        runs[name] = Run.open(make_run(tmp_path / name, shown, lambda *_: 30.0, datasets=told))
    for name in runs.keys() - {"first"}:
        job, _ = jobs_of(runs["first"], None, {name: (runs[name], None)})["mine-0"]
        drawn = set(job.rows(job.figure)["system"]) - {"linear"}
        assert drawn == ({f"{name}:linear"} if name != "other" else set())
        assert [f"nothing of {name} is drawn" in note for note in job.notes] == [True] * (name == "other")


def test_an_overlay_without_points_of_the_figure_is_named(small_dir, tmp_path):
    other = make_run(tmp_path / "second", [figure("fig4", ["gensc"], snrs=[5.0])], value)
    drawn = draw_run(small_dir, None, Options(out=tmp_path / "out", formats=("svg",)), [(other, "gensc")])
    assert [p.name for p in drawn.files] == ["fig4.svg"]
    assert len(drawn.notes) == 1 and drawn.notes[0].startswith("fig4: nothing of second is drawn")


def test_runs_on_other_pictures_share_no_axes(run_dir, tmp_path):
    a, b = (
        make_run(tmp_path / name, [figure("fig4", ["gensc"])], value, datasets={"set-fig4": {"fingerprint": name}})
        for name in ("a", "b")
    )
    with pytest.raises(UserError, match="other pictures"):
        draw_run(a, None, Options(out=tmp_path / "out"), [(b, "")])
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- pictures


def test_footnotes_and_the_demonstration_label(run_dir):
    canvas, words = drawings(run_dir, "fig7")[0]["fig7"]
    text = " ".join(words)
    assert "20 Kbits" in text and "AWGN" in text and "8 images" in text and "run made" in text
    assert any("Demonstration set" in text.get_text() for text in canvas.texts)


def test_gallery_tiles_carry_their_numbers_at_every_snr(run_dir):
    galleries, _ = drawings(run_dir, "fig6")
    assert list(galleries) == ["fig6", "fig6-image-1"]
    canvas, words = galleries["fig6"]
    text = [t.get_text() for t in canvas.texts]
    assert "4 dB" in text and "18 dB" in text and text.count("Original") == 2 and "image-0" in words
    for snr in (4.0, 18.0):
        assert f"{value({'task': 'reconstruction'}, 'gensc', snr, 0):.2f} dB\n9\u202f408 uses" in text
    assert any(t.startswith("outage") for t in text)
    # A system has a picture, a detail and an error map; the original has the scale of the errors in place of the map.
    assert sum(len(axes.images) for axes in canvas.axes) == 2 * (3 * len(FIG4) + 2)


def test_an_output_that_failed_is_no_output_that_was_not_simulated(tmp_path):
    """In both galleries, and in the page. Only the picture of the cell, and only where it failed."""
    figures = [figure("fig5", FIG4[:2], pictures=[4.0]),
               figure("fig7", FIG7[:2], task="segmentation", pictures=[4.0])]  # fmt: skip
    figures[0]["pictures"]["id"] = "fig6"
    fails = {one["id"]: one["systems"][0] for one in figures}
    folder = make_run(tmp_path / "run", figures, lambda one, system, snr, index: (
        None if (system, index) == (fails[one["id"]], 0) else value(one, system, snr, index)))  # fmt: skip
    cell = {"cell_id": "1", "images": "image-00 image-0 image-7", "channel": "awgn", "rep": 0, "error": "not today"}
    RunStore(folder).write_table("failures.csv", FAILURE_COLUMNS, [
        cell | {"system": fails[one["id"]], "dataset": one["dataset"], "snr_db": snr, "cbr_target": one["cbr"],
                "bits_target": one["bits"]} for one in figures for snr in (4.0, 6.0)])  # fmt: skip
    for name in ("fig6", "fig7"):
        canvases = [canvas for canvas, _ in drawings(folder, name)[0].values()]
        texts = [text.get_text() for canvas in canvases for axes in canvas.axes for text in axes.texts]
        assert texts.count("failed") == 1 and "not simulated" not in texts
    items = report_data([Run.open(folder)], 24)["pictures"]["items"]
    told = {(item["figure"], item["image"]): item["failed"] for item in items}
    expected = {(one, "image-0"): [[name, 4.0], [name, 6.0]] for one, name in fails.items()}
    assert told == expected | {(one, "image-1"): [] for one in fails}


@pytest.mark.parametrize(("systems", "lines"), [(1, [1]), (8, [8]), (9, [5, 4]), (20, [7, 7, 6])])
def test_no_system_of_a_gallery_stands_alone_on_its_line(systems, lines):
    picture = np.zeros((32, 48, 3), dtype=np.uint8)
    blocks = [Block("4 dB", [Tile(picture, f"S{place}", "20.00 dB") for place in range(systems)])]
    with paper_sheet.drawing():
        texts = [text.get_text() for text in draw_gallery(picture, blocks).finish().texts]
    titles = [text for text in texts if text == "Original" or text.startswith("S")]
    assert [len(line.split()) for line in " ".join(titles).split("Original")[1:]] == lines


def test_no_curve_runs_along_the_frame():
    """A curve at 59.8 %, below one at 90 %, is drawn a tenth of an inch above the axis, not on it."""
    grid, nothing = np.array([0.0, 10.0]), np.full(2, np.nan)
    flat = [Series(name, "v", grid, np.full(2, level), nothing, nothing, np.zeros(2), ("ok", "ok"))
            for name, level in (("gensc", 90.0), ("linear", 59.8))]  # fmt: skip
    with paper_sheet.drawing():
        low, high = draw_chart(Chart("psnr_db", flat)).figure.axes[0].get_ylim()
    assert (59.8 - low) / (high - low) > 0.03 and (high - 90.0) / (high - low) > 0.03


def test_error_maps_are_absolute_errors():
    original = np.zeros((4, 4, 3), dtype=np.uint8)
    picture = original.copy()
    picture[1, 2] = (30, 0, 60)
    assert error_map(picture, original)[1, 2] == 30 and error_map(picture, original).sum() == 30


def test_no_system_makes_the_error_maps_of_the_others_black():
    original = np.full((32, 32, 3), 128, dtype=np.uint8)
    good = [Tile(original + np.uint8(error), "") for error in (10, 12, 14)]
    assert error_scale([Block("", good)], original) == 14
    spoilt = [*good, Tile(255 - 2 * (original // 2) + np.uint8(128), "")]
    assert error_scale([Block("", spoilt)], original) == 4 * 13


def test_segmentation_outage_has_no_picture(run_dir):
    canvas, _ = drawings(run_dir, "fig7")[0]["fig7"]
    notes = [t.get_text() for axes in canvas.axes for t in axes.texts]
    assert notes.count("does not decode") == 2 * 2  # two pictures, both digital systems at 6 dB


def test_one_snr_makes_one_row(tmp_path):
    run_dir = make_run(tmp_path / "run", [figure("fig7", FIG7, task="segmentation", pictures=[18.0])], value)
    canvas, _ = drawings(run_dir, "fig7")[0]["fig7"]
    assert {"Original", "Truth"} <= {t.get_text() for t in canvas.texts}
    pictures = [axes.get_position().y0 for axes in canvas.axes if axes.images]
    assert len(pictures) == 2 * (2 + len(FIG7)) and len({round(y, 4) for y in pictures}) == 2


def test_labels_lie_over_the_picture_and_every_class_is_in_the_legend():
    original = np.full((6, 6, 3), 100, dtype=np.uint8)
    truth = np.zeros((6, 6), dtype=np.uint8)
    truth[0, 0], truth[5, 5], rare = 255, 15, truth.copy()
    rare[3, 3] = 12  # one pixel of a dog
    shown = overlay(original, truth)
    assert (shown[2, 2] == 100).all()  # the background class shows the picture
    assert classes_shown([Example(original, truth, {6.0: {"gensc": rare}})]) == [0, 12, 15, 255]
    big = np.zeros((9, 9), dtype=np.uint8)
    big[2:7, 2:7] = 15
    person = overlay(np.full((9, 9, 3), 100, dtype=np.uint8), big)[4, 4]
    np.testing.assert_array_equal(person, [round(0.6 * c + 40) for c in (192, 128, 128)])


def test_the_detail_is_where_the_structure_is():
    picture = np.full((100, 120, 3), 128, dtype=np.uint8)
    picture[60:80, 70:100] = np.random.default_rng(0).integers(0, 255, (20, 30, 3))
    top, left, height, width = detail_window(picture)
    assert top < 80 and top + height > 60 and left < 100 and left + width > 70
    covered = max(0, min(top + height, 80) - max(top, 60)) * max(0, min(left + width, 100) - max(left, 70))
    assert covered > 0.8 * min(height * width, 20 * 30)
    for shape in ((1, 1), (1, 40), (40, 1), (2, 2)):
        top, left, height, width = detail_window(np.zeros((*shape, 3), dtype=np.uint8))
        assert top + height <= shape[0] and left + width <= shape[1] and min(height, width) >= 1


def test_a_clone_without_the_pictures_draws_the_rest_and_says_what_it_skips(tmp_path):
    figures = [
        figure("fig5", ["gensc", "linear"], pictures=[18.0])
        | {"pictures": {"id": "fig6", "snr_db": [18.0], "limit": 2}},
        figure("fig7", FIG7, task="segmentation", pictures=[18.0]),
    ]
    run_dir = make_run(tmp_path / "run", figures, value)
    for path in (run_dir / "pictures").rglob("*.png"):
        path.unlink()
    drawn = draw_run(run_dir, None, Options(formats=("svg",)))
    names = {path.name for path in drawn.files}
    assert {"fig5.svg", "fig7.svg", "overheads.csv"} <= names and "fig6.svg" not in names
    assert len(drawn.notes) == 2 and "fig6 is left out" in drawn.notes[0] and "fig7" in drawn.notes[1]
    with pytest.raises(UserError, match="fig6 is left out"):
        draw_all(run_dir, ["fig6"])


# ---------------------------------------------------------------- hostile surroundings and names


def test_limited_runs_say_so(tmp_path):
    run_dir = make_run(tmp_path / "run", [figure("fig4", ["gensc"])], value, limited=True)
    assert any("LIMITED" in word for word in drawings(run_dir, "fig4")[0]["fig4"][1])


#: Unusual characters that names may hold; several at once, since each drawing takes seconds.
ODD = [
    "cost_$5_and_$6^_{ a$b $\\frac{$ %s{}|",
    'new\nline \x00\x07 \udce9.png 日本語 🎈 <&">',
    "x" * 300,
]


@pytest.mark.parametrize("odd", ODD)
def test_odd_names_are_drawn_without_a_word(tmp_path, odd, recwarn):
    """Names of data sets, systems' labels, titles and pictures are drawn without a warning, in every format."""
    spec = figure("fig5", ["gensc", "mine"], snrs=[0.0, 18.0], pictures=[18.0])
    run_dir = make_run(tmp_path / "run", [spec | {"pictures": {"id": "fig6", "snr_db": [18.0], "limit": 1}}], value)
    manifest = json.loads((run_dir / "manifest.json").read_text())
    manifest["run"] = odd
    manifest["config"]["figures"][0] |= {"dataset": odd, "title": odd, "look": {"label": {"mine": odd}}}
    run = Run(run_dir, manifest)
    for name in ("samples", "summary", "pictures"):
        table = getattr(run, name)
        if "dataset" in table:
            table["dataset"] = odd
        if "image_id" in table:
            table["image_id"] = odd
    with paper_sheet.drawing():
        for name in ("fig5", "fig6"):
            job, kind = jobs_of(run)[name]
            for drawing in kind(job):
                from bench.report.figures import _files

                job.options = Options(out=tmp_path / "out", formats=("png", "pdf", "svg"))
                assert all(len(data) > 1000 for data in _files(job, drawing).values())
    assert not [w for w in recwarn if "lyph" in str(w.message)]


@pytest.mark.parametrize("name", ["../../evil", "a/b", "", ".hidden", "x\0y", "a b"])
def test_a_figures_name_stays_in_its_folder(tmp_path, name):
    with paper_sheet.drawing():
        sheet = paper_sheet.Sheet(3.5)
        sheet.axes(0.5, 0.1, 2, 1)
        with pytest.raises(UserError, match="cannot be called"):
            paper_sheet.rendered(sheet.finish(), tmp_path / "in", name)
    assert not list(tmp_path.iterdir())


def test_pictures_whose_names_differ_in_case_alone_have_files_of_their_own(tmp_path):
    """One file would hide the other where case is ignored."""
    shown = [
        figure("mine", ["linear"], snrs=[0.0], pictures=[0.0]) | {"pictures": {"id": "", "snr_db": [0.0], "limit": 3}}
    ]
    run_dir = make_run(tmp_path / "run", shown, value, images=["first", "image", "IMAGE"])
    names = {path.name for path in draw_run(run_dir).files if path.suffix == ".png" and "pictures" in path.name}
    assert {"mine-pictures.png", "mine-pictures-image.png"} < names
    assert len({name.casefold() for name in names}) == len(names) == 3


def with_metric(run_dir, metric):
    """The run, with the values of psnr_db also as those of another metric."""
    table = pd.read_csv(run_dir / "summary.csv")
    more = table[table["metric"] == "psnr_db"].assign(metric=metric)
    pd.concat([table, more]).to_csv(run_dir / "summary.csv", index=False)
    return run_dir


@pytest.mark.parametrize(
    ("other", "pictures", "words"),
    [
        ("mine-lpips", [], "the figures mine and mine-lpips have one file, mine-lpips.png"),
        ("mine-pictures-image-1", [0.0], "the figures mine-pictures and mine-pictures-image-1 have one file"),
        ("mine-pictures", [0.0], "two figures with the id 'mine-pictures'"),
        ("MINE-LPIPS", [], "the figures mine and MINE-LPIPS have one file, MINE-LPIPS.png"),
        ("Mine-pictures", [0.0], "two figures with the id 'Mine-pictures' ('mine-pictures' is the same name"),
    ],
)
def test_no_drawing_hides_another(tmp_path, other, pictures, words):
    figures = [
        figure("mine", ["linear"], snrs=[0.0], pictures=pictures),
        figure(other, ["linear"], snrs=[0.0], dataset="set-2"),
    ]
    for order in (figures, figures[::-1]):
        run_dir = with_metric(make_run(tmp_path / f"run-{order[0]['id']}", order, value), "lpips")
        with pytest.raises(UserError, match="one would hide the other") as found:
            draw_run(run_dir)
        assert order is not figures or words in str(found.value)
        assert "\n" not in str(found.value) and not (run_dir / "figures").exists()
        assert not (run_dir / "tables").exists()


def test_a_figure_does_not_join_the_budgets_of_another(tmp_path):
    figures = [figure("b", ["linear"], snrs=[0.0]), figure("b-8", ["linear"], snrs=[0.0], cbr=1 / 8, budgets_of="b")]
    with pytest.raises(UserError, match="two figures with the id 'b'"):
        draw_run(make_run(tmp_path / "run", figures, value))


def test_the_users_matplotlib_settings_change_nothing(small_dir, tmp_path):
    """Settings are another backend, LaTeX, or a file that is not text; they are in the working directory and where
    MATPLOTLIBRC points.
    """
    code = (
        "import sys; from bench.report import draw_all; from pathlib import Path\n"
        f"draw_all(Path({str(small_dir)!r}), ['fig4'], out=Path(sys.argv[1]), formats=('png', 'svg'))"
    )

    def draw(name, cwd, **env):
        out = tmp_path / name
        done = subprocess.run(
            [sys.executable, "-c", code, str(out)], cwd=cwd, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": os.getcwd(), **env},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return [(out / f"fig4.{kind}").read_bytes() for kind in ("png", "svg")]

    plain, hostile = tmp_path / "plain", tmp_path / "hostile"
    plain.mkdir()
    hostile.mkdir()
    (hostile / "matplotlibrc").write_text("text.usetex: True\nfont.size: 30\nlines.linewidth: 9\nnonsense: 3\n")
    broken = tmp_path / "broken"
    broken.write_bytes(b"\xff\xfe\x00font.size: 30\n")
    drawn = draw_all(small_dir, ["fig4"], out=tmp_path / "a", formats=("png", "svg"))  # without a user's settings
    first = [path.read_bytes() for path in drawn]
    assert draw("b", hostile, MPLBACKEND="module://matplotlib_inline.backend_inline") == first
    assert draw("c", plain, MATPLOTLIBRC=str(broken), MPLBACKEND="no-such-backend") == first


def test_drawing_leaves_the_users_session_as_it_was(small_dir):
    import matplotlib

    with matplotlib.rc_context({"font.size": 23.0, "text.usetex": True}):
        before = dict(matplotlib.rcParams)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            drawings(small_dir, "fig4")
        assert dict(matplotlib.rcParams) == before


def test_bad_input_is_one_line(run_dir, tmp_path):
    with pytest.raises(UserError, match="no manifest.json"):
        draw_all(tmp_path)
    with pytest.raises(UserError, match="did you mean fig4"):
        draw_all(run_dir, ["fig44"])
    for options, words in (
        ({"systems": ("gensk",)}, "--systems.*did you mean gensc"),
        ({"labels": {"gensk": "x"}}, "--label"),
        ({"highlight": ("nobody",)}, "--highlight"),
        ({"relative_to": "nobody"}, "--relative-to"),
    ):
        with pytest.raises(UserError, match=words):
            draw_all(run_dir, None, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
    for parse, text, words in (
        (parse_formats, "gif", "--format"), (parse_formats, "", "--format"), (parse_limits, "4", "--ylim"),
        (parse_limits, "40,20", "--ylim"), (parse_limits, "a,b", "--ylim"), (parse_limits, "nan,3", "--ylim"),
        (parse_labels, ("gensc",), "--label"), (parse_labels, ("=x",), "--label"),
        (parse_labels, ("gensc=",), "--label"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words):
            parse(text)
    assert parse_limits("20:40") == parse_limits("20,40") == (20, 40) and parse_formats("PNG, svg,png") == (
        "png",
        "svg",
    )
    assert parse_labels(("gensc=Ours = best",)) == {"gensc": "Ours = best"}


# ---------------------------------------------------------------- the table of kinds


def test_a_figure_names_its_kind(run_dir, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setitem(KINDS, "mine", lambda job: seen.append(job.id) or KINDS["curves"](job))
    run = make_run(tmp_path / "run", [figure("fig9", ["gensc"], look={"kind": "mine"})], value)
    assert [p.name for p in draw_all(run, ["fig9"], formats=("svg",))] == ["fig9.svg"] and seen == ["fig9"]
    wrong = make_run(tmp_path / "wrong", [figure("fig9", ["gensc"], look={"kind": "curvs"})], value)
    with pytest.raises(UserError, match="fig9: unknown kind 'curvs'; did you mean curves"):
        draw_all(wrong)


def test_a_third_party_adds_a_kind_by_an_entry_point(tmp_path, monkeypatch):
    """A package beside the bench brings a function; a figure file names it as its kind."""
    site = tmp_path / "site"
    (site / "bars_kind-1.dist-info").mkdir(parents=True)
    (site / "bars_kind-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: bars-kind\nVersion: 1\n")
    (site / "bars_kind-1.dist-info" / "entry_points.txt").write_text(
        "[semantic_bench.figures]\nbars = bars_kind:draw\nbroken = bars_kind:nothing\n"
    )
    (site / "bars_kind.py").write_text(
        "from bench.report.drawing_job import Drawing\n"
        "from bench.report.paper_sheet import Sheet\n"
        "def draw(job):\n"
        "    rows = job.rows(job.figure).query('metric == \"psnr_db\" and snr_db == 20')\n"
        "    sheet = Sheet(3.5)\n"
        "    sheet.axes(0.5, 0.1, 2.9, 1.5).bar([job.looks(rows.system).label(n) for n in rows.system], rows['mean'])\n"
        "    return [Drawing(job.id, sheet, ['bars'])]\n"
    )
    monkeypatch.syspath_prepend(str(site))
    run_dir = make_run(tmp_path / "run", [figure("mine", ["gensc", "linear"], look={"kind": "bars"})], value)
    (svg,) = draw_all(run_dir, ["mine"], formats=("svg",))
    assert svg.stat().st_size > 1000
    broken = make_run(tmp_path / "broken", [figure("mine", ["gensc"], look={"kind": "broken"})], value)
    with pytest.raises(UserError, match="kind 'broken': bars_kind:nothing does not"):
        draw_all(broken)
    for code, words in (("1 / 0", "ZeroDivisionError"), ("exit()", "SystemExit"), ("return 3", "TypeError"),
                        ("return [3]", "no list of drawings")):  # fmt: skip
        monkeypatch.setattr(sys.modules["bars_kind"], "draw", None)
        exec(f"def draw(job):\n    {code}", vars(sys.modules["bars_kind"]))
        with pytest.raises(UserError, match=f"kind 'bars' .bars_kind:draw. cannot draw it: .*{words}"):
            draw_all(run_dir)


@pytest.mark.parametrize("damaged", ["samples.csv", "tables/overheads.md"])
def test_a_command_that_fails_at_the_end_has_written_nothing(tmp_path, capsys, damaged):
    """The figure can be drawn, and a later step fails: the claims lack the samples, or a folder is in the place of a
    table.
    """
    run = make_run(tmp_path / "run", [figure("fig4", ["gensc", "linear"], snrs=[0.0, 10.0])], value)
    if damaged == "samples.csv":
        whole = (run / damaged).read_bytes()
        (run / damaged).write_bytes(whole[: len(whole) // 2])
    else:
        (run / damaged).mkdir(parents=True)
    before = sorted(run.rglob("*"))
    code, _, err = call(capsys, "plot", run, "--format", "svg")
    assert code == 2 and err.startswith("error: ") and damaged in err and len(err.splitlines()) == 1, err
    assert sorted(run.rglob("*")) == before


@pytest.mark.parametrize("look", [3, [], {"kind": 3}, {"ylim": "x"}, {"label": {"gensc": None}}, {"order": {}},
                                  {"label": {"gensc": " "}}, {"colour": {"gensc": "white"}}])  # fmt: skip
def test_a_damaged_manifest_is_one_line(small_dir, tmp_path, look):
    manifest = json.loads((small_dir / "manifest.json").read_text())
    manifest["config"]["figures"][0]["look"] = look
    with pytest.raises(UserError, match="figure fig4"):
        jobs_of(Run(small_dir, manifest))
