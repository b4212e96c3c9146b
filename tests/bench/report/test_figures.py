"""Figures: what is drawn is checked as numbers and as matplotlib objects, the files as files."""

import itertools

import numpy as np
import pandas as pd
import pytest
from made_run import SNRS, figure, make_run
from PIL import Image

from bench.analysis.undertrained import undertrained
from bench.report import draw_all, style
from bench.report.curves import draw_curves, series_of
from bench.report.figures import figure_makers
from bench.report.gallery import detail_window
from bench.results.reader import Run
from systems.errors import UserError

FIG4 = ["gensc", "witt", "adjscc", "deepjscc", "jpeg-ldpc-16qam", "jpeg-ldpc-64qam", "linear"]
FIG7 = ["gensc", "deeplab-jscc", "jpeg-ldpc-16qam-fcn", "jpeg-ldpc-64qam-fcn"]
CLIFF = {"16qam": 12, "64qam": 18}


def value(experiment, system, snr, index):
    for modulation, cliff in CLIFF.items():
        if modulation in system and snr < cliff:
            return "outage"
    order = style.style_of(system).order
    if experiment["task"] == "segmentation":
        return 0.8 - 0.1 * order / 5 + 0.01 * (index % 3)
    return 26 + 0.4 * snr - 0.3 * order + 0.5 * index


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    figures = [
        figure("fig4", FIG4),
        figure("fig5", FIG4, pictures=[18.0]) | {"pictures": {"id": "fig6", "snr_db": [18.0], "limit": 2}},
        figure("fig7", FIG7, task="segmentation", pictures=[6.0, 18.0]),
    ]
    return make_run(
        tmp_path_factory.mktemp("runs") / "made",
        figures,
        value,
        systems={"witt": {"undertrained": True}},
        datasets={"set-fig7": {"demonstration": True}},
    )


# ---------------------------------------------------------------- style


def test_the_papers_systems_differ_in_colour_marker_and_grey():
    for systems in (FIG4, FIG7):
        looks = [style.style_of(name) for name in systems]
        assert len({look.colour for look in looks}) == len(systems)
        assert len({look.marker for look in looks}) == len(systems)
        assert len({look.label for look in looks}) == len(systems)
        for first, second in itertools.combinations(looks, 2):
            # In grey, colour says nothing where luminances meet: the marker differs always, and then the dash must too.
            if abs(style.luminance(first.colour) - style.luminance(second.colour)) < 0.05:
                assert first.marker != second.marker and first.dash != second.dash


def test_a_style_depends_on_the_name_alone():
    alone = style.style_of("adjscc")
    for name in ("zzz", "gensc", "my-system", "jpeg-ldpc-16qam"):
        style.style_of(name)
    assert style.style_of("adjscc") == alone
    assert style.style_of("someones-system") == style.style_of("someones-system")


def test_third_parties_never_look_like_a_system_of_the_paper():
    fixed = {
        (style.style_of(name).colour, style.style_of(name).marker)
        for name in (*FIG4, *FIG7, "jpeg-capacity", "jpeg-ldpc-adaptive")
    }
    others = [style.style_of(f"system-{number}") for number in range(300)]
    assert not fixed & {(look.colour, look.marker) for look in others}
    assert len({(look.colour, look.marker, look.dash) for look in others}) > 50


def test_luminance_of_known_colours():
    assert style.luminance("#000000") == 0 and style.luminance("#FFFFFF") == pytest.approx(1)
    assert style.luminance("#00FF00") == pytest.approx(0.7152)


def test_labels_compose():
    assert style.label_of("avif-ldpc-256qam-fcn") == "AVIF+LDPC+256QAM+FCN"
    assert style.label_of("jpeg-ldpc-16qam") == "JPEG+LDPC+16QAM"
    assert style.label_of("my-system") == "my-system"


# ---------------------------------------------------------------- series


def curves_of(run_dir, name="fig4", metric="psnr_db"):
    run = Run.open(run_dir)
    experiment = next(e for e in run.experiments if e["id"] == name)
    return {curve.system: curve for curve in series_of(run.summary_of(experiment), metric, undertrained(run))}


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
        assert curve.cliff == cliff
    assert curves["gensc"].cliff is None


def test_one_lost_picture_breaks_the_curve_and_a_missing_point_is_a_gap(tmp_path):
    def some(experiment, system, snr, index):
        if system == "deepjscc" and snr == 8:
            return None
        if system == "jpeg-ldpc-16qam" and (snr < 12 or (snr == 16 and index == 3)):
            return "outage"
        return 30.0 + index

    run_dir = make_run(tmp_path / "run", [figure("fig4", ["deepjscc", "jpeg-ldpc-16qam"])], some)
    curves = curves_of(run_dir)
    assert curves["deepjscc"].state[SNRS.index(8)] == "missing" and np.isnan(curves["deepjscc"].mean[SNRS.index(8)])
    assert curves["jpeg-ldpc-16qam"].state[SNRS.index(16)] == "outage" and np.isnan(
        curves["jpeg-ldpc-16qam"].mean[SNRS.index(16)]
    )
    assert not (np.concatenate([curve.mean for curve in curves.values()]) == 0).any()
    with style.paper_look():
        axes = draw_curves(list(curves.values())).axes[0]
    drawn = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
    assert np.isnan(drawn["Deep JSCC"][SNRS.index(8)])
    np.testing.assert_array_equal(drawn["JPEG+LDPC+16QAM"], curves["jpeg-ldpc-16qam"].mean)


def test_ink_matches_style_and_marks_undertrained(run_dir):
    curves = curves_of(run_dir)
    with style.paper_look():
        canvas = draw_curves(list(curves.values()))
    lines = {line.get_label(): line for line in canvas.axes[0].get_lines()}
    legend = [text.get_text() for text in canvas.legends[0].get_texts()]
    assert legend[0] == "GenSC" and "WITT (undertrained)" in legend and len(legend) == len(FIG4)
    assert lines["WITT (undertrained)"].get_linewidth() < lines["ADJSCC"].get_linewidth()
    for system in FIG4:
        look = style.style_of(system)
        line = lines[look.label + (" (undertrained)" if system == "witt" else "")]
        assert line.get_color() == look.colour and line.get_marker() == look.marker


def test_two_variants_of_a_system_are_told_apart(run_dir):
    summary = Run.open(run_dir).summary
    rows = summary[(summary["dataset"] == "set-fig4") & (summary["system"] == "gensc")]
    both = series_of(pd.concat([rows, rows.assign(variant="paper-2")]), "psnr_db")
    with style.paper_look():
        legend = [text.get_text() for text in draw_curves(both).legends[0].get_texts()]
    assert sorted(legend) == ["GenSC [paper-2]", "GenSC [small-1]"]


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
        pixels = np.asarray(picture.convert("RGB"))
    # The curves are there in their colours.
    for system in ("gensc", "adjscc"):
        colour = [int(style.style_of(system).colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(pixels.astype(int) - colour).max(axis=2) < 6).sum() > 100
    assert (run_dir / "figures" / "fig4.pdf").read_bytes().startswith(b"%PDF")


def test_equal_tables_give_equal_files(run_dir):
    first = [path.read_bytes() for path in draw_all(run_dir, ["fig4"])]
    assert first == [path.read_bytes() for path in draw_all(run_dir, ["fig4"])]


def test_footnotes_and_the_demonstration_label(run_dir):
    makers = figure_makers(Run.open(run_dir))
    with style.paper_look():
        (_, canvas), *_ = makers["fig7"]()
    text = " ".join(t.get_text() for t in canvas.texts)
    assert "20 kbits" in text and "AWGN" in text and "8 images" in text and "run made" in text
    assert "Demonstration set" in canvas.axes[0].get_title(loc="left")
    with style.paper_look():
        (_, canvas), *_ = makers["fig4"]()
    assert "CBR 1/16" in canvas.texts[-1].get_text()


def test_gallery_tiles_carry_their_numbers(run_dir):
    with style.paper_look():
        galleries = figure_makers(Run.open(run_dir))["fig6"]()
    assert len(galleries) == 2
    text = [t.get_text() for t in galleries[0][1].texts]
    assert text[0] == "Original" and "GenSC" in text
    expected = value({"task": "reconstruction"}, "gensc", 18.0, 0)
    assert f"{expected:.2f} dB · 9\u202f408 uses" in text


def test_segmentation_outage_has_no_picture(run_dir):
    with style.paper_look():
        (_, canvas), *_ = figure_makers(Run.open(run_dir))["fig7"]()
    notes = [t.get_text() for axes in canvas.axes for t in axes.texts]
    assert notes.count("does not decode") == 2 * 2  # two pictures, both digital systems at 6 dB


def test_the_detail_is_where_the_structure_is():
    picture = np.full((100, 120, 3), 128, dtype=np.uint8)
    picture[60:80, 70:100] = np.random.default_rng(0).integers(0, 255, (20, 30, 3))
    top, left, height, width = detail_window(picture)
    assert top < 80 and top + height > 60 and left < 100 and left + width > 70
    covered = max(0, min(top + height, 80) - max(top, 60)) * max(0, min(left + width, 100) - max(left, 70))
    assert covered > 0.8 * min(height * width, 20 * 30)


def test_limited_runs_say_so(tmp_path):
    run_dir = make_run(tmp_path / "run", [figure("fig4", ["gensc"])], value, limited=True)
    with style.paper_look():
        (_, canvas), *_ = figure_makers(Run.open(run_dir))["fig4"]()
    assert "LIMITED" in canvas.texts[-1].get_text()


def test_bad_input_is_one_line(run_dir, tmp_path):
    with pytest.raises(UserError, match="no manifest.json"):
        draw_all(tmp_path)
    with pytest.raises(UserError, match="did you mean fig4"):
        draw_all(run_dir, ["fig44"])
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="cannot read"):
        draw_all(tmp_path)


def test_budgets_side_by_side_are_a_curve_over_the_budget(tmp_path):
    """Each budget's value stands over its kilobits; SNRs make a figure each."""
    group = [figure(f"b-{k}k", ["gensc", "deeplab-jscc"], task="segmentation", snrs=[0.0, 10.0], dataset="set-b",
                    bits=1000 * k, budgets_of="b") for k in (5, 20)]  # fmt: skip
    run = Run.open(make_run(tmp_path / "run", group, lambda e, s, snr, i: e["bits"] / 40000 + snr / 100))
    makers = figure_makers(run)
    assert list(makers) == ["b"]
    assert [suffix for suffix, _ in makers["b"]()] == ["-0dB", "-10dB"]
    rows = run.summary.assign(kbits=run.summary["bits_target"] / 1000)
    curves = series_of(rows[rows["snr_db"] == 10], "miou", along="kbits")
    assert [curve.system for curve in curves] == ["gensc", "deeplab-jscc"]
    for curve in curves:
        assert curve.x.tolist() == [5, 20]
        # class 15 is found to the share e["bits"] / 40000 + 0.1, what is missed is called background
        share = np.array([0.225, 0.6])
        np.testing.assert_allclose(curve.mean, 50 * (share + 1 / (2 - share)), rtol=1e-9)
