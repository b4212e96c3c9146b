"""Tests of tables: full precision in CSV, correct Markdown, and costs that agree with counts by hand."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from made_run import figure, make_run, without_means

import baselines  # noqa: F401  (registers fcn-ceiling)
from bench.perf import flops
from bench.perf.operations import count_operations
from bench.report.class_tables import class_markdown, class_table
from bench.report.html.build import report_data
from bench.report.overheads import flops_keys, kept_flops, overhead_markdown, overhead_table
from bench.report.tables import results_table, tables_of
from bench.report.terminal import result_tables
from bench.results.reader import Run
from bench.util.files import write_all
from bench.util.markdown import cell
from systems import registry
from systems.interface import Budget, Decoded, Link, System, Transmission


def value(figure, system, snr, index):
    if system == "jpeg-ldpc-16qam" and snr < 12:
        return "outage"
    if system == "witt" and snr == 4:
        return None
    return 20 + snr / 3 + index / 7


def made(folder, value):
    facts = {
        "witt": {
            "parameters": 28_200_000,
            "images_seen": {"reconstruction": 12345},
            "undertrained": True,
            "data": {
                "reconstruction": {"sources": ["photos", "coco"], "pictures": 9},
                "segmentation": {"sources": ["coco"]},
            },
        }
    }
    figures = [figure("fig4", ["gensc", "witt", "jpeg-ldpc-16qam"])]
    return Run.open(make_run(folder, figures, value, systems=facts, uses=lambda s: 9408 if s != "gensc" else 9000))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return made(tmp_path_factory.mktemp("runs") / "made", value)


@pytest.mark.parametrize("budget", [{}, {"bits": None, "uses": 5000}], ids=["bits", "uses"])
def test_the_classes_behind_an_miou_add_up_to_it(tmp_path, budget):
    """The mean over classes of the table's IoU is the summary's mIoU; its pixels are all labelled pixels."""

    def share(figure, system, snr, index):
        return "outage" if (system, snr) == ("deeplab-jscc", 0) and index == 0 else 0.1 * index + snr / 100

    asked = figure("fig7", ["gensc", "deeplab-jscc"], task="segmentation", snrs=[0.0, 20.0], **budget)
    own = Run.open(make_run(tmp_path / "seg", [asked], share))
    table = class_table(own, own.figures[0])
    means = own.summary[own.summary["metric"] == "miou"].set_index(["system", "snr_db"])["mean"]
    assert len(table.groupby(["system", "snr_db"])) == 4
    for (system, snr), rows in table.groupby(["system", "snr_db"]):
        assert rows["iou"].mean() == pytest.approx(means[system, snr], abs=1e-12)
        assert rows["labelled"].sum() == 8 * 2000 and set(rows["n_images"]) == {8}
        assert set(rows["n_outage"]) == {int((system, snr) == ("deeplab-jscc", 0))}
    text = class_markdown(table, "title")
    assert "| person | 8 |" in text and f"**{100 * means['gensc', 20.0]:.1f}**" in text and "lost" not in text


def test_a_failed_cell_leaves_no_table_of_what_is_left(tmp_path):
    """A system could fail on its hardest or slowest pictures, or at the SNRs at which it spends most. Such a point has
    no mean and no classes, and its system no latency and no bits.
    """
    asked = figure("fig7", ["gensc", "deeplab-jscc", "fcn-ceiling"], task="segmentation", snrs=[0.0, 20.0])
    folder = make_run(tmp_path / "seg", [asked], lambda figure, system, snr, index: 0.1 * index + snr / 100)
    whole = Run.open(folder)
    assert set(class_table(whole, whole.figures[0]).groupby(["system", "snr_db"]).groups) == {
        (name, snr) for name in asked["systems"] for snr in (0.0, 20.0)
    }
    without_means(folder, [("gensc", 0.0), ("deeplab-jscc", 0.0), ("deeplab-jscc", 20.0)])
    own = Run.open(folder)
    assert set(class_table(own, own.figures[0]).groupby(["system", "snr_db"]).groups) == {
        ("gensc", 20.0), ("fcn-ceiling", 0.0), ("fcn-ceiling", 20.0)
    }  # fmt: skip
    spent = overhead_table(own, {}).set_index("system")
    measured = ["encode_ms", "decode_ms", "n_uses", "cbr", "bits", "side_bits"]
    assert (spent.loc["fcn-ceiling", measured] >= 0).all()
    assert spent.loc[["gensc", "deeplab-jscc"], measured].isna().all(axis=None)
    for name in ("GenSC", "DeepLab"):
        (line,) = (line for line in overhead_markdown(overhead_table(own, {})).splitlines() if name in line)
        assert not re.search(r"[1-9]|nan", line.replace("fig7", "")), line


def test_csv_gives_back_every_digit(run):
    written = write_all(tables_of(run))
    path = next(path for path in written if path.name == "results-fig4.csv")
    stored = [float(text) for text in pd.read_csv(path, dtype=str)["mean"].dropna()]
    assert stored == results_table(run, run.figures[0])["mean"].dropna().tolist()
    own = np.array([20 + 2.0 / 3 + index / 7 for index in range(8)])
    assert own.mean() in stored  # exactly the same double


def test_markdown_has_no_zero_for_what_was_not_simulated(run):
    write_all(tables_of(run))
    lines = (run.directory / "tables" / "results-fig4.md").read_text().split("\n\n")[1].splitlines()
    row = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in lines
        if line.startswith("| ")
    }
    assert row["WITT"][2] == "" and row["WITT"][3].startswith("22.50 (")
    assert row["JPEG+LDPC+16QAM"][0] == "outage (8 lost)" and row["JPEG+LDPC+16QAM"][6].startswith("24.50 (")


def test_a_fade_shows_the_value_beside_what_was_lost(tmp_path):
    """Lost pictures count as 13 dB here: (4 x 13 + 30 + 32 + 34 + 36) / 8 = 23."""
    own = Run.open(make_run(tmp_path / "run", [figure("fig4", ["gensc"], snrs=[0.0, 9.0], channel="rayleigh-block")],
                            lambda e, s, snr, i: "outage" if snr == 0 and i % 2 else 30.0 + i))  # fmt: skip
    write_all(tables_of(own))
    text = (own.directory / "tables" / "results-fig4.md").read_text()
    assert "| GenSC | 23.00 (" in text and "; 4 lost)" in text and "Outages (%)" in text and "| 50.0 (" in text
    table = results_table(own, own.figures[0])
    assert list(dict.fromkeys(table["metric"])) == ["psnr_db", "psnr_of_mean_mse_db", "outage_rate"]


def test_overheads_come_from_the_rows(tmp_path):
    run = made(tmp_path / "whole", lambda *of: value(*of) or 30.0)
    table = overhead_table(run, {("fig4", "witt"): {"encode": 7, "decode": 9}}).set_index("system")
    assert list(table.index) == ["gensc", "witt", "jpeg-ldpc-16qam"]
    assert table.loc["gensc", "n_uses"] == 9000 and table.loc["witt", "n_uses"] == 9408
    assert table.loc["witt", "cbr"] == 9408 / 150528
    assert table.loc["witt", "encode_ms"] == pytest.approx(11) and table.loc["witt", "decode_ms"] == pytest.approx(23)
    assert table.loc["witt", "images_seen"] == 12345
    assert table.loc["witt", "parameters"] == 28_200_000 and table.loc["witt", "trained_on"] == "photos, coco"
    assert (table.loc["witt", "flops_encode"], table.loc["witt", "flops_decode"]) == (7, 9)
    assert bool(table.loc["witt", "undertrained"]) and not bool(table.loc["gensc", "undertrained"])


def test_what_a_pack_says_of_its_pictures_is_said_to_be_what_it_says(tmp_path):
    """A pack may call noise "photos". Its words stand at the end, and no long name cuts them off."""
    packed, plain = {"sources": ["photos", "cid22"], "packs": ["ab" * 32]}, {"sources": ["voc2012:train"]}
    cases = ({"reconstruction": packed}, {"reconstruction": plain, "segmentation": packed}, {"1 dB": {"a": packed}},
             {"reconstruction": plain}, {"reconstruction": packed | {"sources": ["e" * 900, "f" * 900]}})  # fmt: skip
    for number, data in enumerate(cases):
        facts = {"gensc": {"data": data}}
        path = make_run(tmp_path / f"{number}", [figure("fig4", ["gensc"], snrs=[6.0])], lambda *_: 30.0, systems=facts)
        shown = overhead_table(Run.open(path), {})["trained_on"].item()
        assert shown.endswith("(as a pack says)") == (number != 3), shown
        assert number or shown == "photos, cid22 (as a pack says)"


class Convolution(System):
    """The encoder is one 3x3 convolution 3 -> 4 at stride 2; the decoder is one matrix product."""

    name = "convolution"

    def __init__(self):
        self.out = torch.nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)

    def encode(self, images, link):
        features = self.out(images).flatten(1)
        symbols = torch.view_as_complex(features.reshape(len(features), -1, 2).contiguous())
        return Transmission(symbols / symbols.abs().square().mean(dim=1, keepdim=True).sqrt())

    def decode(self, received, link):
        reals = torch.view_as_real(received.symbols).reshape(len(received.symbols), 16, -1)
        return Decoded((reals @ torch.ones(reals.shape[2], 48)).reshape(1, 3, 16, 16).sigmoid())


def test_flops_against_a_hand_count():
    counts = count_operations(Convolution(), Link("reconstruction", 16, 16, Budget(uses=10**6), snr_db=20.0))
    # outputs times taps; a multiply-add counts as two operations
    assert counts["encode"] == 2 * (8 * 8 * 4) * (3 * 3 * 3)
    assert counts["decode"] == 2 * 16 * 16 * 48  # (16, 16) @ (16, 48)


def test_what_another_system_left_remembered_is_counted():
    """The FCN labels each picture once per process. Its arithmetic is charged to the receiver nevertheless."""
    ceiling = registry.create("fcn-ceiling", checkpoint="none")
    link = Link("segmentation", 64, 64, Budget(bits=20_000), snr_db=20.0)
    first, second = (count_operations(ceiling, link)["decode"] for _ in range(2))
    assert first == second > 1e6


def test_flops_are_counted_once_when_the_run_ends_and_plot_builds_nothing(run, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls = []
    monkeypatch.setattr(flops, "count", lambda run, fig, system: calls.append(system) or {"encode": 1, "decode": 2})
    first = flops.fill(run.directory)
    assert calls == ["witt"] and first == kept_flops(run) == {("fig4", "witt"): {"encode": 1, "decode": 2}}
    assert flops.fill(run.directory) == first and calls == ["witt"]
    (run.directory / "tables" / "flops.json").unlink()
    flops.fill(run.directory)
    assert calls == ["witt"]  # another run of the same system reads the count from the cache
    monkeypatch.setattr("systems.registry.create", lambda *_, **__: pytest.fail("plot built a system"))
    write_all(tables_of(run))
    table = pd.read_csv(run.directory / "tables" / "overheads.csv").set_index("system")
    assert table.loc["witt", "flops_encode"] == 1 and np.isnan(table.loc["gensc", "flops_encode"])


def test_checkpoints_of_several_sizes_have_no_count_of_one_of_them(tmp_path):
    facts = {"witt": {"size": "several", "parameters": 9}}
    path = make_run(tmp_path / "run", [figure("fig4", ["witt"], snrs=[6.0])], lambda *_: 30.0, systems=facts)
    said = []
    assert flops.fill(path, said.append) == {} and "networks of several sizes" in said[0]


def test_the_terminal_says_what_a_lost_picture_of_each_task_is_scored_as(tmp_path):
    def lost(figure, system, snr, index):
        return "outage" if (system, index) == ("gensc", 0) else 0.5

    asked = [figure("fig4", ["gensc", "linear"]), figure("fig7", ["gensc", "linear"], task="segmentation")]
    folder = make_run(tmp_path / "run", asked, lost)

    def shown(*figures):
        sets = {f["dataset"]: SimpleNamespace(name=f["dataset"], ids=("a",), demonstration=False) for f in figures}
        drawn = tuple(SimpleNamespace(**f, uses=None) for f in figures)
        limit = SimpleNamespace(limit=None)
        resolved = SimpleNamespace(figures=drawn, datasets=sets, request=limit, systems={})
        return result_tables(resolved, folder).splitlines()

    words = "* some of the pictures were outages, scored as"
    assert shown(*asked)[-1] == f"{words} mid-grey or background"
    assert shown(asked[1])[-1] == f"{words} background"
    nothing = asked[1] | {"systems": ["linear"]}
    assert "*" not in "".join(shown(nothing)) and len(shown(nothing)) == 3
    without_means(folder, [("linear", 4.0)])
    assert shown(nothing)[-1] == "- cells failed or were not computed, so the point has no mean"
    assert "- cells" not in "".join(shown(nothing | {"systems": ["gensc"]}))


@pytest.mark.parametrize("text", ["[]", "null", '{"a": 3}', "nonsense", "[" * 20000])
def test_a_damaged_count_is_no_count(run, text):
    path = run.directory / "tables" / "flops.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    assert kept_flops(run) == {}
    path.unlink()


@pytest.mark.parametrize("number", ["1e400", "NaN", "-1", "true", '"7"', "9" * 400], ids=lambda text: text[:5])
def test_a_count_that_no_table_can_show_is_no_count(run, number):
    path, (key, *_) = run.directory / "tables" / "flops.json", flops_keys(run).values()
    path.parent.mkdir(exist_ok=True)
    for count, shown in ((number, 0), ("7", 1)):
        path.write_text(f'{{{json.dumps(key)}: {{"encode": {count}, "decode": 3}}}}')
        assert len(kept_flops(run)) == shown
    path.unlink()


HUGE = [10**400, 10**4299, 1.7e308, float("inf"), float("nan"), -1, "many", True, None, [3]]


@pytest.mark.parametrize("seen", [*HUGE, *({"reconstruction": 5, "other": bad} for bad in HUGE),
                                  {"reconstruction": {"stage": 5, "deeper": {"last": 10**400}}}],
                         ids=lambda seen: str(seen)[:40])  # fmt: skip
def test_what_a_system_says_it_has_seen_is_counts_or_nothing(tmp_path, seen):
    """A third party's `describe`, or the sidecar of a stranger's weights for one of our systems, may say anything."""
    facts = {"gensc": {"images_seen": seen, "parameters": 10**400}}
    folder = make_run(tmp_path / "run", [figure("fig4", ["gensc"], snrs=[6.0])], lambda *_: 30.0, systems=facts)
    run = Run.open(folder)
    known = 5 if isinstance(seen, dict) else None
    assert overhead_table(run, {})["images_seen"].tolist() == [known]
    (line,) = (line for line in overhead_markdown(overhead_table(run, {})).splitlines() if "| GenSC |" in line)
    assert line.split("|")[-4].strip() == ("5" if known else "")
    assert report_data([run], 0)["systems"]["gensc"]["seen"] == known


def test_long_texts_of_a_system_do_not_fill_tables_and_pages(tmp_path):
    long = "d" * 300_000
    facts = {"gensc": {"knowledge": long, "licence": long, "sha256": long, "label": long, "variant": [long],
                       "data": {"reconstruction": {"sources": [long, f"e{long}"]}, long: long}}}  # fmt: skip
    run = Run.open(make_run(tmp_path / "run", [figure("fig4", ["gensc"], snrs=[6.0])], lambda *_: 30.0, systems=facts))
    assert overhead_table(run, {})["knowledge"].str.len().max() == 1000
    assert overhead_table(run, {})["trained_on"].str.len().max() == 1000
    shown = report_data([run], 0)["systems"]["gensc"]
    assert len(shown["licence"]) == len(shown["sha256"]) == 1000
    assert max(len(text) for text in texts_in(run.system_facts)) == 1000


def texts_in(value):
    """All texts in a value of JSON."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    return [text for part in value for text in texts_in(part)] if isinstance(value, list) else [str(value)]


def test_the_page_and_the_table_count_alike_what_weights_have_seen(tmp_path):
    facts = {"gensc": {"images_seen": {"reconstruction": 12_345, "segmentation": {"first": 2, "last": 3}}}}
    run = Run.open(make_run(tmp_path / "run", [figure("fig4", ["gensc"], snrs=[6.0])], lambda *_: 30.0, systems=facts))
    shown = report_data([run], 0)["systems"]["gensc"]["seen"]
    assert shown == overhead_table(run, {})["images_seen"].item() == 12_350


def test_a_missing_column_is_one_line(tmp_path):
    from systems.errors import UserError

    folder = make_run(tmp_path / "run", [figure("fig4", ["gensc"])], value)
    (folder / "samples.csv").write_text("schema,cell_id\n1,x\n")
    with pytest.raises(UserError, match="lacks the column 'system'"):
        _ = Run.open(folder).samples


def test_a_manifest_that_is_no_object_is_one_line(tmp_path):
    from systems.errors import UserError

    for text in ("[]", "null", "3"):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(UserError, match="not the manifest of a run"):
            Run.open(tmp_path)


def test_flops_need_no_weights(tmp_path):
    def count(checkpoint):
        facts = {"deepjscc": {"options": {"size": "small", "checkpoint": checkpoint}, "parameters": 1}}
        folder = make_run(tmp_path / checkpoint, [figure("fig4", ["deepjscc"], snrs=[10.0])], value, systems=facts)
        samples = folder / "samples.csv"
        samples.write_text(samples.read_text().replace(",224,224,", ",32,32,"))
        return flops.count(Run.open(folder), "fig4", "deepjscc")

    assert count("mine.safetensors") == count("none") and count("none")["encode"] > 0


def test_an_unspent_budget_is_said(tmp_path):
    uses = {"gensc": 8937, "witt": 8938, "linear": 4704}  # the budget is 9408 uses; 95 % of it is 8937.6
    run = Run.open(make_run(tmp_path / "run", [figure("fig4", list(uses))], lambda *_: 30.0, uses=uses.get))
    write_all(tables_of(run))
    for name in ("overheads.md", "results-fig4.md"):
        text = (run.directory / "tables" / name).read_text()
        assert "GenSC spends 95 % of the budget" in text and "spends 50 % of the budget" in text
        assert text.count("of the budget") == 2


def test_no_name_is_markdown_or_html_in_a_table():
    """A label `</table>` would end the table of all systems, in a program that shows Markdown."""
    assert cell("a</table>|*b*`c`[d](e)&amp;") == r"a\</table\>\|\*b\*\`c\`\[d\](e)\&amp;"
    assert cell("JPEG+LDPC+16QAM, rate 5/6 (x_y)") == "JPEG+LDPC+16QAM, rate 5/6 (x_y)"
