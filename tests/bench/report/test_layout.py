"""No text of a figure touches another text, a legend or a picture, or leaves the sheet.

Every kind of figure is drawn, in both styles, with names of any length. The boxes are those of matplotlib's renderer.
"""

import io
from itertools import combinations

import numpy as np
import pytest
from made_run import figure, make_run
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from bench.perf import scatter
from bench.report import draw_all, paper_sheet, system_looks
from bench.report.charts import Chart, draw_chart
from bench.report.curves import Series
from bench.report.figures import jobs_of
from bench.report.gallery import Block, Tile, draw_gallery
from bench.report.options import Options
from bench.report.paper_sheet import Sheet
from bench.report.segmentation import Example, draw_segmentation
from bench.results.reader import Run

FIG4 = ["gensc", "witt", "adjscc", "deepjscc", "jpeg-ldpc-16qam", "jpeg-ldpc-64qam", "linear"]
FIG7 = ["gensc", "deeplab-jscc", "jpeg-ldpc-16qam-fcn", "jpeg-ldpc-64qam-fcn"]
LONG = {"gensc": "GenSC, " + "of the most careful kind " * 2, "witt": "W" * 50, "linear": "a_name_without_seams_" * 2}


def boxes(canvas):
    """(words, box in pixels) of every visible text, and of every tick that is within its axis; the legends' and the
    frames of pictures' boxes.
    """
    agg = FigureCanvasAgg(canvas)
    agg.draw()
    renderer = agg.get_renderer()
    ticks, hidden = [], set()
    for axes in [*canvas.axes, *(child for parent in canvas.axes for child in parent.child_axes)]:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            span = high - low
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                inside = low - 1e-9 * span <= tick.get_loc() <= high + 1e-9 * span
                hidden |= set() if inside else {tick.label1, tick.label2}
            hidden.add(axis.offsetText) if not axis.offsetText.get_text() else None
    for text in canvas.findobj(Text):
        if text.get_text().strip() and text.get_visible() and text not in hidden:
            ticks.append((text.get_text(), text.get_window_extent(renderer)))
    legends = [
        (legend.get_window_extent(renderer), {t.get_text() for t in legend.get_texts()}) for legend in canvas.legends
    ]
    pictures = [axes.get_window_extent(renderer) for axes in canvas.axes if axes.images]
    return ticks, legends, pictures


def touch(a, b):
    """Whether two boxes share more than a hair (0.3 pixels)."""
    return min(a.x1, b.x1) - max(a.x0, b.x0) > 0.3 and min(a.y1, b.y1) - max(a.y0, b.y0) > 0.3


def faults(canvas):
    texts, legends, pictures = boxes(canvas)
    assert len(texts) > 5
    found = [(a, b) for (a, first), (b, second) in combinations(texts, 2) if touch(first, second)]
    found += [(words, "legend") for words, box in texts for legend, own in legends
              if words not in own and touch(box, legend)]  # fmt: skip
    found += [("legend", "legend") for (a, _), (b, _) in combinations(legends, 2) if touch(a, b)]
    if not any("simulated" in words or "decode" in words for words, _ in texts):
        found += [(words, "picture") for words, box in texts for picture in pictures if touch(box, picture)]
    width, height = canvas.bbox.width, canvas.bbox.height
    everything = [*texts, *(("legend", box) for box, _ in legends)]
    found += [(words, "edge") for words, box in everything
              if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1]  # fmt: skip
    return found


def value(entry, system, snr, index):
    if "16qam" in system and snr < 12 or "64qam" in system and snr < 13:  # two cliffs, one beside the other
        return "outage"
    order = system_looks.style_of(system).order
    if entry["task"] == "segmentation":
        return 0.8 - 0.1 * order / 5 + 0.01 * (index % 3)
    return 26 + 0.4 * snr - 0.3 * order + 0.5 * index


SNRS = [0.0, 6.0, 10.0, 12.0, 12.5, 13.0, 18.0, 20.0]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Every kind of figure, with published curves, cliffs, outages in a fade, differences, and pictures."""
    kodak = {"dataset": "kodak", "snrs": SNRS}
    figures = [
        figure("fig5", FIG4, **kodak) | {"pictures": {"id": "fig6", "snr_db": [6.0, 18.0], "limit": 1}},
        figure("faded", FIG4, channel="rayleigh-block", **kodak),
        *(figure(f"b-1_{k}", FIG4, snrs=[10.0], dataset="kodak", cbr=1 / k, budgets_of="b") for k in (48, 24, 16, 8)),
        figure("fig7", FIG7, task="segmentation", snrs=SNRS, pictures=[6.0, 18.0]),
    ]
    folder = tmp_path_factory.mktemp("runs") / "made"
    return Run.open(
        make_run(folder, figures, value, datasets={"set-fig7": {"demonstration": True}}, images=["image-0", "image-1"])
    )


#: The style, and the labels of systems. A drawing takes a second or two, so the second half is left to slow runs.
LOOKS = [
    pytest.param("screen", {}, id="screen"),
    pytest.param("ieee", LONG, id="ieee, long names"),
    pytest.param("ieee", {}, id="ieee", marks=pytest.mark.slow),
    pytest.param("screen", LONG, id="screen, long names", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("look", "labels"), LOOKS)
@pytest.mark.parametrize("name", ["fig5", "faded", "b", "fig6", "fig7"])
def test_no_text_touches_another(run, name, look, labels):
    there = {system for entry in run.figures for system in entry["systems"]}
    options = Options(style=look, labels={key: text for key, text in labels.items() if key in there})
    job, kind = jobs_of(run, options)[name]
    with paper_sheet.drawing(look):
        drawings = kind(job)
        assert drawings
        for drawing in drawings:
            drawing.sheet.footnote(drawing.words)
            assert faults(drawing.sheet.finish()) == [], drawing.name


@pytest.mark.parametrize("look", ["screen", pytest.param("ieee", marks=pytest.mark.slow)])
@pytest.mark.parametrize("metric", ["psnr_db", "ms_ssim", "lpips", "miou"])
def test_values_of_any_size_leave_the_labels_apart(metric, look):
    """Tick labels such as -0.0005 are wide, whatever the metric."""
    grid, nothing = np.arange(20.0), np.full(20, np.nan)
    for low, high in ((0.0, 1e-3), (-123.0, 12345.0), (0.2, 0.9)):
        flat = [
            Series(name, "v", grid, np.linspace(low, end, 20), nothing, nothing, np.zeros(20), ("ok",) * 20)
            for name, end in (("gensc", high), ("linear", (low + high) / 2))
        ]
        with paper_sheet.drawing(look):
            assert faults(draw_chart(Chart(metric, flat)).finish()) == []


@pytest.mark.parametrize("look", ["screen", pytest.param("ieee", marks=pytest.mark.slow)])
@pytest.mark.parametrize("count", [1, 13])
def test_pictures_of_any_number_of_systems_keep_their_names_apart(count, look):
    rng = np.random.default_rng(5)
    original = rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)
    names = [
        ("A name without seams", "W" * 40, "Someone's system (of the second kind)+FCN")[i % 3] for i in range(count)
    ]
    blocks = [Block("18 dB", [Tile(original, name, "outage\n12 345 678 uses") for name in names])] * 2
    truth = np.arange(21, dtype=np.uint8).repeat(40)[:800].reshape(20, 40)  # all classes, so a wide legend
    example = Example(original[:20, :40], truth, {18.0: {f"s{i}": truth for i in range(count)}})
    looks = system_looks.looks_of([f"s{i}" for i in range(count)], said={f"s{i}": name for i, name in enumerate(names)})
    grid, nothing = np.array([0.0, 10.0]), np.full(2, np.nan)
    flat = [Series(f"s{i}", "v", grid, np.full(2, 40.0 + i), nothing, nothing, np.zeros(2), ("ok", "ok"))
            for i in range(count)]  # fmt: skip
    chart = Chart("miou", flat, looks, title="Demonstration set of 5 photographs, not a benchmark")
    with paper_sheet.drawing(look):
        assert faults(draw_gallery(original, blocks, "60 × 40").finish()) == []
        assert faults(draw_segmentation(chart, [example], list(looks.styles)).finish()) == []
        assert faults(draw_segmentation(chart, [], list(looks.styles)).finish()) == []
        points = [(f"s{i}", device, 10.0 + i, 30.0 + i) for i in range(count) for device in ("cpu", "NVIDIA GPU")]
        assert faults(scatter.draw(points, "Quality and latency of all systems", 10.0, looks).finish()) == []


@pytest.mark.parametrize("dpi", [paper_sheet.SMALL_DPI, 200])
def test_a_footnote_ends_inside_the_sheet_at_any_resolution(dpi):
    """As drawn: dots of letters, in the file, are left of the last two columns."""
    words = ["kodak", "24 images", "below: difference to GenSC (KLT start), paired over images, 95 % intervals"]
    for width in np.arange(3.0, 4.0, 0.1):
        with paper_sheet.drawing("screen", dpi):
            sheet = Sheet(width)
            sheet.footnote(words * 3)
            out = io.BytesIO()
            sheet.finish().savefig(out, format="png", dpi=dpi)
        with Image.open(out) as picture:
            assert np.asarray(picture.convert("L"))[:, -2:].min() == 255, width


@pytest.mark.parametrize(
    ("given", "dpi"), [({}, 200), ({"small": True}, 100), ({"dpi": 150}, 150), ({"style": "ieee"}, 600)]
)
def test_texts_are_measured_at_the_resolution_of_the_file(run, tmp_path, monkeypatch, given, dpi):
    found, finish = [], Sheet.finish
    monkeypatch.setattr(Sheet, "finish", lambda self: (found.append(self.figure.dpi), finish(self))[1])
    draw_all(run.directory, ["fig5"], out=tmp_path, formats=("png",), **given)
    assert set(found) == {dpi}


def test_the_measure_finds_what_touches():
    with paper_sheet.drawing():
        sheet = Sheet(3.5)
        sheet.axes(0.5, 0.1, 2.9, 1.0)
        sheet.text(0.5, 1.4, "one text")
        sheet.text(0.6, 1.4, "another text")
        sheet.text(3.3, 1.8, "over the edge")
        sheet.bottom = 2.0
        assert faults(sheet.finish()) == [("one text", "another text"), ("over the edge", "edge")]
