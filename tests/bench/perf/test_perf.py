"""Tests of `perf`: the sweep against the plain loop, which points share a batch, the time of each stage, and what the
models cost.
"""

from __future__ import annotations

import json
import math
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from harness import bench, call, environment, rows, without_costs
from made_run import figure, make_run
from PIL import Image

from bench.cli.perf import perf_group
from bench.perf import link, model
from bench.perf.plain import KEY, plain_loop
from bench.perf.scatter import draw_scatters, points_of
from bench.results.reader import Run
from systems import Budget, result_cache, stage_times
from systems.errors import UserError

pytestmark = pytest.mark.usefixtures("forked_workers")


def execute(out, how=None, **request):
    from bench.spec.request import Request, resolve
    from bench.sweep.execute import execute as execute_run

    resolved = resolve(Request(**request))
    return resolved, execute_run(resolved, out, **{"engine": "serial", "salt": "none", **(how or {})})


# ---------------------------------------------------------------- the plain loop


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """Two photographs of two sizes, small enough for every network."""
    from bench.data import open_dataset

    folder, dataset = tmp_path_factory.mktemp("photographs"), open_dataset("photos")
    for image_id, size in (("astronaut", (128, 96)), ("coffee", (101, 75))):
        pixels = dataset.load(image_id).image.permute(1, 2, 0).numpy()
        Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS).save(folder / f"{image_id}.png")
    return folder


@pytest.mark.parametrize(
    "request_",
    [
        {"systems": ("gensc", "witt", "adjscc", "linear"), "snr": "0,14", "channel": "rayleigh-block"},
        # The first system is tried in a process apart, which would compile the digital link anew.
        {"systems": ("linear", "jpeg-ldpc-16qam", "jpeg-ldpc-64qam"), "snr": "4,13", "cbr": "1/4", "reps": 2},
        {"systems": ("gensc", "jpeg-ldpc-16qam-fcn"), "snr": "4,13,15", "dataset": "voc-demo", "limit": 1},
    ],
    ids=["networks", "digital", "segmentation"],
)
def test_the_sweep_finds_what_the_plain_loop_finds(request_, photographs, tmp_path):
    """Rows, outages, seeds and used channel uses are equal; PSNR agrees to 1e-3 dB; cached values change no label."""
    resolved, _ = execute(tmp_path / "run", **{"dataset": f"folder:{photographs}", **request_})
    table = {tuple(row[column] for column in KEY): row for row in rows(tmp_path / "run" / "samples.csv")}
    plain = plain_loop(resolved).rows
    assert table.keys() == plain.keys()
    for key, row in plain.items():
        assert (table[key]["status"], table[key]["noise_id"]) == (row["status"], row["noise_id"])
        assert int(table[key]["n_uses"]) - int(table[key]["side_uses"]) == row["n_symbols"]
        for metric in {"psnr_db", "miou"} & row.keys():
            assert float(table[key][metric]) == pytest.approx(row[metric], abs=1e-3)
    if "64qam" in str(request_):  # a table with outages only, or with none, would be a weak comparison
        assert {row["status"] for row in plain.values()} == {"ok", "outage"}


# ---------------------------------------------------------------- what shares a batch


def test_points_that_share_a_batch_keep_their_rows(place):
    """Any split of the work, also with a cell that is lost and computed again, gives the same digits. They agree to
    1e-3 dB with those of each point alone.
    """
    asked = {"systems": ("deepjscc",), "snr": "0:8:2", "dataset": "folder:pictures", "cbr": "1/6", "reps": 2}
    execute(place / "alone", {"batch": 1}, **asked)
    execute(place / "joined", {"batch": 24}, **asked)
    execute(place / "split", {"batch": 24, "engine": "process", "workers": 3}, **asked)
    joined = without_costs(place / "joined" / "samples.csv")
    assert joined == without_costs(place / "split" / "samples.csv")
    assert {row["batch"] for row in rows(place / "alone" / "samples.csv")} == {"1"}
    # Two blocks: 8 pictures of two sizes, the larger group 5, so 4 points at once; then 2 pictures of one size, 10 at
    # once.
    assert max(int(row["batch"]) for row in rows(place / "joined" / "samples.csv")) > 10
    for one, other in zip(without_costs(place / "alone" / "samples.csv"), joined, strict=True):
        assert (one["cell_id"], one["image_id"], one["noise_id"]) == (
            other["cell_id"],
            other["image_id"],
            other["noise_id"],
        )
        assert float(one["psnr_db"]) == pytest.approx(float(other["psnr_db"]), abs=1e-3)
    lost = sorted((place / "joined" / "cells").glob("*.csv"))[3]
    lost.unlink()
    assert execute(place / "joined", {"batch": 24}, **asked)[1].done == 1
    assert without_costs(place / "joined" / "samples.csv") == joined


def test_a_point_that_fails_leaves_those_of_its_batch_whole(near_systems, place):
    (place / "faults" / "error").touch()
    asked = {"systems": ("t-joined",), "snr": "0:8:2", "dataset": "folder:pictures", "cbr": "1/6"}
    result = execute(place / "run", {"batch": 24}, **asked)[1]
    assert (result.done, len(result.failures)) == (8, 2)
    assert {float(row["snr_db"]) for row in rows(place / "run" / "samples.csv")} == {0, 2, 6, 8}


def test_a_network_reads_several_points_at_once(photographs, tmp_path):
    asked = {"systems": ("witt", "deepjscc"), "snr": "0:12:4", "dataset": f"folder:{photographs}"}
    execute(tmp_path / "alone", {"batch": 1}, **asked)
    execute(tmp_path / "joined", {"batch": 4}, **asked)
    alone, joined = (rows(tmp_path / name / "samples.csv") for name in ("alone", "joined"))
    assert {row["batch"] for row in joined} == {"4"}
    for one, other in zip(alone, joined, strict=True):
        assert float(one["psnr_db"]) == pytest.approx(float(other["psnr_db"]), abs=1e-3)


# ---------------------------------------------------------------- the account


def test_every_second_is_counted_once():
    stage_times.take()
    start = time.perf_counter()
    with stage_times.stage("outer"):
        time.sleep(0.05)
        with stage_times.stage("inner"):
            time.sleep(0.1)
        with pytest.raises(ZeroDivisionError), stage_times.stage("inner"):
            raise ZeroDivisionError
    elapsed = time.perf_counter() - start
    spent = stage_times.take()
    assert spent["outer"][0] + spent["inner"][0] == pytest.approx(elapsed, abs=5e-3)
    assert spent["inner"][0] >= 0.1 and spent["outer"][0] >= 0.05
    assert sum(cpu for _, cpu in spent.values()) < 0.1  # sleeping takes time, but no processor time
    assert stage_times.take() == {}


def test_a_memo_computes_once_and_says_what_it_saved():
    kept, calls = result_cache.Memo(2), []
    result_cache.take_saved()

    def slow(value):
        calls.append(value)
        time.sleep(0.02)
        return value

    assert [kept.get(key, lambda key=key: slow(key)) for key in "aab"] == ["a", "a", "b"]
    assert calls == ["a", "b"] and 0.02 <= result_cache.take_saved() < 0.2 and result_cache.take_saved() == 0
    kept.get("c", lambda: slow("c"))  # the oldest is removed
    kept.get("a", lambda: slow("a"))
    assert calls == ["a", "b", "c", "a"]
    result_cache.forget()
    assert kept.get("a", lambda: slow("again")) == "again"
    x = np.arange(6, dtype=np.uint8)
    assert result_cache.digest(x) == result_cache.digest(x.copy()) != result_cache.digest(x.reshape(2, 3))


def test_perf_sweep_accounts_for_the_run(photographs, tmp_path):
    table = tmp_path / "stages.csv"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "bench",
            "perf",
            "sweep",
            "--systems",
            "linear,witt",
            "--dataset",
            f"folder:{photographs}",
            "--snr",
            "0,10",
            "--engine",
            "serial",
            "--csv",
            str(table),
        ],
        capture_output=True,
        text=True,
        env=environment([]),
        check=False,
    )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    found = {(row["system"], row["stage"]): float(row["cpu_s"]) for row in rows(table)}
    for system in ("linear", "witt"):
        assert {stage for name, stage in found if name == system} >= {
            "data",
            "encode",
            "channel",
            "decode",
            "metrics",
            "store",
        }
    assert found["witt", "decode"] > found["linear", "decode"] > 0
    assert 0 < sum(found.values()) <= used.ru_utime + used.ru_stime
    assert "CPU seconds" in done.stdout and "(run)" in done.stdout


@pytest.mark.parametrize(
    ("system", "link_name", "said"),
    [
        (
            "jpeg-ldpc-16qam",
            "nr-sionna",
            "with link nr-sionna: 1 rows, 1 of them in the run's 1; "
            "outages differ in 0; largest difference 0.0e+00 dB PSNR",
        ),
        ("jpeg-ldpc-16qam", "no-such-link", "no-such-link"),
        ("linear", "nr-sionna", "--plain-link has no effect"),
    ],
)
def test_the_plain_loop_may_take_another_link(system, link_name, said, photographs, monkeypatch):
    from baselines.digital import nr

    decoded, flooding = [], nr._flooding  # Sionna's decoder, which the sweep's own link does not use
    monkeypatch.setattr(nr, "_flooding", lambda *of: decoded.append(of) or flooding(*of))
    done = CliRunner().invoke(perf_group, [
        "sweep", "--systems", system, "--dataset", f"folder:{photographs}", "--snr", "16", "--limit", "1", "--engine",
        "serial", "--plain-link", link_name,
    ])  # fmt: skip
    if isinstance(done.exception, UserError):
        assert said in str(done.exception) and not decoded
    else:
        assert done.exit_code == 0 and said in done.output and decoded


# ---------------------------------------------------------------- the models


def test_what_linear_costs_is_its_matrix_products():
    job = model.TimingJob("linear", "reconstruction", {}, 64, 64, "cpu", 18.0, batch=2, repeats=3)
    row = model.measure(job)
    assert {*row, "latency_ms_against", "speedup"} == set(model.COLUMNS)
    blocks, coefficients = 16, math.ceil(2 * (3 * 64 * 64 // 16 - Budget(uses=768).side_info_uses(8)) / 16)
    product = 2 * 768 * coefficients
    assert row["flops_decode"] == blocks * product
    assert row["flops_encode"] == (blocks + 1) * product  # the mean goes through the transform as well
    assert row["latency_ms"] > 0 and row["pictures_per_s"] > 0 and row["peak_mib"] >= row["idle_mib"] > 0


SLOW = """

def _slow(self, received, link, decode=DeepJSCC.decode):
    __import__("time").sleep(0.3)
    return decode(self, received, link)


DeepJSCC.decode = _slow
"""


@pytest.fixture
def slow_checkout(tmp_path):
    """A copy of the project whose Deep JSCC sleeps 0.3 s in its decoder."""
    root, other = Path(model.__file__).parents[2], tmp_path / "other"
    for package in ("bench", "systems", "baselines", "configs"):
        shutil.copytree(root / package, other / package)  # with byte code, which holds because files keep their times
    source = other / "baselines" / "deepjscc.py"
    source.write_text(source.read_text() + SLOW)
    return other


def test_models_are_measured_in_processes_of_their_own_also_by_the_code_of_another_checkout(tmp_path, slow_checkout):
    out = tmp_path / "models.csv"
    command = ["model", "--systems", "deepjscc", "--picture", "64x64", "--device", "cpu", "--repeats", "3",
               "--batch", "1", "--against", str(slow_checkout), "--csv", str(out)]  # fmt: skip
    done = CliRunner().invoke(perf_group, command, catch_exceptions=False)
    assert done.exit_code == 0 and "deepjscc" in done.output and "speedup" in done.output
    (row,) = rows(out)
    from systems import create
    from systems.weight_files import count_parameters

    assert int(row["parameters"]) == count_parameters(create("deepjscc"))
    assert float(row["encode_ms"]) > 0 and float(row["flops_decode"]) > 0
    assert float(row["latency_ms"]) < 300 <= float(row["latency_ms_against"]) and float(row["speedup"]) > 1
    with pytest.raises(UserError, match="--against .* not a checkout"):
        model.checkout(str(tmp_path))


@pytest.mark.parametrize("text", ["224", "0x10", "224x", "axb"])
def test_a_faulty_picture_size(text):
    with pytest.raises(UserError, match="--picture"):
        model.parse_sizes(text)


def test_the_scatter_shows_the_run_s_psnr(tmp_path):
    folder = make_run(
        tmp_path / "run",
        [figure("fig4", ["gensc", "linear", "jpeg-ldpc-16qam"])],
        lambda f, system, snr, index: "outage" if "jpeg" in system else 20 + snr / 2 + (system == "gensc"),
    )
    run = Run.open(folder)
    measured = [
        {"system": s, "device": "cpu", "height": 224, "width": 224, "latency_ms": ms}
        for s, ms in (("gensc", 60.0), ("linear", 4.0), ("jpeg-ldpc-16qam", 300.0), ("witt", 80.0))
    ]
    points = points_of(run, run.figures[0], measured, 10.0)
    assert points == [("gensc", "cpu", 60.0, pytest.approx(26.0)), ("linear", "cpu", 4.0, pytest.approx(25.0))]
    paths = draw_scatters(run, measured, 10.0)
    assert [path.name for path in paths] == ["latency-fig4.png", "latency-fig4.pdf"] and all(
        p.stat().st_size > 2000 for p in paths
    )
    with pytest.raises(UserError, match="no PSNR"):
        draw_scatters(run, measured, 11.0)
    # a latency at seven times the figure's pixels does not count for the figure
    far = [{**row, "height": 512, "width": 768} for row in measured]
    assert points_of(run, run.figures[0], far, 10.0) == []


@pytest.mark.slow
def test_a_large_picture_at_paper_size_stays_below_8_gigabytes():
    options = {"size": "paper", "checkpoint": "none"}
    row = model.in_own_process(
        model.TimingJob("gensc", "reconstruction", options, 512, 768, "cpu", 18.0, batch=1, repeats=3)
    )
    assert row["parameters"] > 600e6
    assert row["peak_mib"] * 2**20 < 8e9


# ---------------------------------------------------------------- many pictures


def many_pictures(folder: Path, count: int) -> Path:
    folder.mkdir()
    generator = np.random.default_rng(0)
    for index in range(count):
        Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"n{index:05d}.png")
    return folder


def test_a_dry_run_reads_no_picture(place, capsys):
    """A dry run needs names and byte sizes only. Pictures that cannot be read are an error of the run."""
    many_pictures(place / "many", 3)
    for path in (place / "many").iterdir():
        path.write_bytes(path.read_bytes()[:80])
    code, out, err = call(capsys, "run", "--systems", "linear", "--dataset", "folder:many", "--snr", "0", "--dry-run")
    assert code == 0 and "1 cell, 0 cached" in out, err


@pytest.mark.slow
def test_ten_thousand_pictures_stream(tmp_path):
    """The worker's memory does not grow with the folder; the parent's grows by less than 20 kB per picture; a dry run
    is immediate.
    """
    peaks = {}
    script = (
        "import json, resource, sys\nfrom bench.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as stop:\n"
        "    code = stop.code\nkinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)\n"
        "print(json.dumps([code, *(resource.getrusage(kind).ru_maxrss / 1024 for kind in kinds)]))\n"
    )
    for count in (1000, 10_000):
        folder = many_pictures(tmp_path / f"many{count}", count)
        command = [
            "run",
            "--systems",
            "linear",
            "--dataset",
            f"folder:{folder}",
            "--snr",
            "10",
            "--cbr",
            "1/4",
            "--workers",
            "1",
            "--device",
            "cpu",
            "--out",
            str(tmp_path / f"run{count}"),
        ]
        done = subprocess.run(
            [sys.executable, "-c", script, *command],
            capture_output=True,
            text=True,
            env=environment([]),
            check=False,
            timeout=580,
        )
        code, parent, worker = json.loads(done.stdout.splitlines()[-1])
        assert code == 0, done.stderr
        peaks[count] = parent, worker
    (parent, worker), (more_parent, more_worker) = peaks[1000], peaks[10_000]
    assert more_worker < worker + 20, peaks
    assert more_parent - parent < 9000 * 20 / 1024, peaks
    times = {}
    # The first command after a change of a system's source builds each system once; that time must not count.
    for count in (1000, 10_000):
        start = time.perf_counter()
        done = bench("run", "--systems", "all", "--snr", "0:20:2", "--dataset", f"folder:{tmp_path / f'many{count}'}",
                     "--dry-run", env=environment([]), cwd=tmp_path)  # fmt: skip
        times[count] = time.perf_counter() - start
        assert done.returncode == 0 and f"{count} pictures" in done.stdout, done.stderr
    assert times[10_000] < 2, times


def test_the_csv_of_perf_sweep_is_tidy():
    from bench.perf.sweep import NOBODY, as_table, pivot

    table = as_table(
        {("", "plan"): (2.0, 1.0), ("b", "encode"): (4.0, 3.0), ("a", "encode"): (1.0, 0.5), ("b", "unknown"): (9, 9)}
    )
    assert table == [(NOBODY, "plan", 2.0, 1.0), ("b", "encode", 4.0, 3.0), ("a", "encode", 1.0, 0.5)]
    text = pivot(table, 3, "CPU seconds")
    assert text.splitlines()[-2].split() == ["sum", "1.00", "3.50", "4.50"]


# ---------------------------------------------------------------- the link


def test_the_frames_of_the_link_carry_the_noise_they_say():
    """The LLR of QPSK at Es/N0 s is normal with mean 2s for a sent 1, and with variance 4s."""
    from sionna.phy.fec.ldpc import LDPC5GEncoder

    sent, llr = link.Code(200, 400, 2.0).frames(400, seed=3)
    assert sent.shape == (400, 200) and llr.shape == (400, 400) and llr.dtype == np.float32
    word = LDPC5GEncoder(200, 400, device="cpu")(torch.from_numpy(sent).float()).numpy()
    x, s = (llr * (2 * word - 1)).astype(np.float64), 10**0.2
    assert abs(x.mean() - 2 * s) < 5 * np.sqrt(4 * s / x.size)
    assert abs(x.var() / (4 * s) - 1) < 5 * np.sqrt(2 / x.size)
    assert np.array_equal(link.Code(200, 400, 2.0).frames(400, seed=3)[1], llr)
    assert not np.array_equal(link.Code(200, 400, 2.0).frames(400, seed=4)[1], llr)


def test_both_decoders_are_measured_until_each_has_its_block_errors():
    before = torch.get_num_threads()
    rows_ = link.measure(link.Code(200, 400, 1.0), link.Effort(repeats=3, errors=10), threads=1)
    assert torch.get_num_threads() == before
    layered, sionna = rows_
    assert (layered["decoder"], sionna["decoder"], sionna["iterations"]) == ("layered", "sionna", link.ITERATIONS)
    assert 1 < layered["iterations"] < link.ITERATIONS
    assert layered["mbit_s"] > 10 * sionna["mbit_s"] > 0
    for row in rows_:
        assert set(row) | {"cpu"} == set(link.COLUMNS)
        assert row["block_errors"] >= 10 and row["bler"] == row["block_errors"] / row["frames"]
        assert 0 < row["bler_low"] < row["bler"] < row["bler_high"] < 1


def test_an_interval_of_no_errors_is_the_closed_form():
    rate, low, high = link.Count(frames=50, errors=0).rate()
    assert (rate, low) == (0, 0) and high == pytest.approx(1 - 0.025 ** (1 / 50))


def test_the_share_of_soft_values_at_the_rail_is_the_normal_laws():
    """The soft values of QPSK are normal with mean +-2s and variance 4s (s = Es/N0). They are limited to 31/4."""
    from scipy.stats import norm

    shares = {order: (snr_db, share) for order, snr_db, share in link.rail_shares()}
    assert set(shares) == {4, 16, 64, 256} and all(0 < share < 1 for _, share in shares.values())
    snr_db, share = shares[4]
    s = 10 ** (snr_db / 10)
    law = norm.sf(31 / 4, 2 * s, 2 * np.sqrt(s)) + norm.cdf(-31 / 4, 2 * s, 2 * np.sqrt(s))
    values = 2 * link.RAIL_FRAMES * link.RAIL_USES
    assert abs(share - law) < 5 * np.sqrt(law * (1 - law) / values)


def test_the_table_compares_both_decoders_where_a_hundredth_fails():
    row = link.compare_at(88, 176, 320)
    assert tuple(row) == link.TABLE_COLUMNS and row["frames"] == 320 and row["verdict"] in ("loses", "even", "wins")
    assert row["bler_layered"] < 0.06 and row["bler_sionna"] < 0.06
    assert link.compare_at(8448, 8500, 32) is None  # NR has no code of rate 0.994


def test_perf_link_prints_and_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(link, "POINTS", ((200, 400, 1.0), (60, 120, 3.0)))
    out = tmp_path / "link.csv"
    done = CliRunner().invoke(perf_group, ["link", "--quick", "--csv", str(out)], catch_exceptions=False)
    assert done.exit_code == 0 and "k=200, n=400 (rate 0.500)" in done.output and "times as fast" in done.output
    assert "n=9126, 10 iterations always: " in done.output and "256QAM at 22.50 dB: " in done.output
    table = rows(out)
    assert [(row["k"], row["decoder"]) for row in table] == [
        (k, name) for k in ("200", "60") for name in ("layered", "sionna")
    ]
    assert {row["frames"] for row in table} == {str(link.QUICK.frames)} and all(row["cpu"] for row in table)
