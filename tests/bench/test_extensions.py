"""A small package adds one thing of each kind, and a run uses all of them from end to end; this repository stays
unchanged.
"""

import csv
import json
import os
import sys
from pathlib import Path

from harness import bench_each

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "tests" / "extension_package"
ENTRY_POINTS = """
[semantic_bench.systems]
block-means = extension:Means
[semantic_bench.metrics]
worst_error = extension:METRIC
[semantic_bench.channels]
two-paths = extension:CHANNEL
[semantic_bench.datasets]
ramps = extension:DATASET
[semantic_bench.figures]
twice = extension:twice
"""
FIGURE = """
id = "ours"
title = "One of each"
task = "reconstruction"
dataset = "ramps"
systems = ["block-means", "linear"]
channel = "two-paths"
snr_db = [0, 20]
cbr = "1/16"
metric = "worst_error"
kind = "twice"
"""


def test_one_package_adds_one_of_each(tmp_path):
    sys.path.insert(0, str(PACKAGE))
    try:
        from extension import make_pictures
    finally:
        sys.path.remove(str(PACKAGE))
    make_pictures(tmp_path / "data" / "ramps")
    info = tmp_path / "site" / "extension-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: extension\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "ours.toml").write_text(FIGURE)
    paths = [str(ROOT), str(PACKAGE), str(info.parent), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

    listed, channels, *_ = bench_each(
        ("list", "systems"),
        ("list", "channels"),
        ("run", "--figure", "ours.toml", "--data-root", "data", "--engine", "serial", "--out", "run"),
        ("plot", "run", "--format", "png"),
        env=env, cwd=tmp_path,
    )  # fmt: skip
    with (tmp_path / "run" / "samples.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 and {row["system"] for row in rows} == {"block-means", "linear"}
    assert {row["channel"] for row in rows} == {"two-paths"} and {row["dataset"] for row in rows} == {"ramps"}
    assert all(0 < float(row["worst_error"]) <= 255 for row in rows)
    with (tmp_path / "run" / "summary.csv").open() as file:
        assert "worst_error" in {row["metric"] for row in csv.DictReader(file)}
    # The channel's record alone says what the receiver knows of it.
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert {row["csi"] for row in rows} == {"turned"}
    assert manifest["definitions"]["csi"] == "turned: the receiver knows h up to a turn of 0.1 rad"
    # All code of others inside the harness is named; a system is outside.
    (session,) = manifest["sessions"]
    assert set(session["inside"]) == {"metric worst_error (extension:METRIC)", "channel two-paths (extension:CHANNEL)",
                                      "data set ramps (extension:DATASET)"}  # fmt: skip
    assert [path.name for path in sorted((tmp_path / "run" / "figures").glob("*twice*.png"))]
    assert "Block means" in listed or "block-means" in listed
    assert "two-paths" in channels and "up to a turn of 0.1 rad" in channels
