"""Measures the cost of the separate processes in which a third party's encoder and decoder run (`bench.measure.apart`).

    python -m bench.perf.separation [MODULE:CLASS] [PICTURES]

One system is measured twice: in this process, as our own systems run, and in separate processes, as a third party's
run. The two ways take turns, picture by picture, so other load of the machine slows both. `bench/measure/README.md`
has the result.
"""

from __future__ import annotations

import importlib
import os
import statistics
import sys
import time
from pathlib import Path

import torch

import baselines  # noqa: F401  (registers its systems)
from bench.measure.apart import Home, RemoteSystem, Sight, inspect
from bench.measure.apart.nursery_client import Call
from bench.measure.audit import REPORT_COLUMNS
from bench.measure.calls import LocalEnd
from bench.measure.point import Batch, Conditions, Measurement, Point

SIDE, SNR_DB = 224, 10.0
CONDITIONS = Conditions("reconstruction", "random", "awgn", 1 / 16, None, "")


def main(target: str = "baselines.linear:Linear", pictures: int = 20) -> None:
    """Print the seconds, on the clock and of CPU, that a picture takes in each way, and those of the start."""
    start = time.perf_counter()
    home = Home.shared()
    home.measures(seal=True)
    print(f"start: {time.perf_counter() - start:.1f} s, {_nursery_seconds():.1f} s of CPU")
    module, _, name = target.partition(":")
    facts, sight = inspect(home, "measured", target, {}), Sight.of(target, {}, [Path("results")])
    apart = Counted(home, "measured", target, {}, facts, sight, sorted(REPORT_COLUMNS))
    ends = {"in the worker": LocalEnd(getattr(importlib.import_module(module), name)()), "apart": LocalEnd(apart)}
    spent: dict[str, list[tuple[float, float]]] = {way: [] for way in ends}
    for index in range(pictures + 1):
        image = torch.randint(0, 256, (1, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(index))
        batch = Batch((str(index),), image.float() / 255, image.to(torch.uint8), None)
        for way, end in ends.items():
            before = time.perf_counter(), time.process_time() + apart.processor + _nursery_seconds()
            _deliver(end, batch)
            now = time.perf_counter(), time.process_time() + apart.processor + _nursery_seconds()
            spent[way] += [(now[0] - before[0], now[1] - before[1])] if index else []  # the first picture warms up
    for way, values in spent.items():
        wall, processor = (statistics.mean(one) for one in zip(*values, strict=True))
        print(f"{target} {way}: {wall:.3f} s a picture, {processor:.3f} s of CPU (means of {pictures})")


class Counted(RemoteSystem):
    """A system in processes of its own that adds up their CPU seconds before they are ended."""

    processor = 0.0

    def _close(self, call: Call) -> None:
        self.processor += _tree_seconds(call.pid)
        super()._close(call)


def _deliver(end: LocalEnd, batch: Batch) -> None:
    measurement, point = Measurement(end, CONDITIONS), Point(SNR_DB, 0)
    list(measurement.deliver([point], batch, [measurement.sender(batch)(point)]))


def _nursery_seconds() -> float:
    """CPU seconds of the nursery itself."""
    process = Home.shared().process
    assert process is not None
    return _seconds(process.pid)


def _seconds(pid: int) -> float:
    """CPU seconds of a process so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def _tree_seconds(pid: int) -> float:
    """CPU seconds of a process and its children so far (Linux)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return _seconds(pid) + sum(_tree_seconds(int(child)) for child in children)


if __name__ == "__main__":
    with torch.inference_mode():
        main(*sys.argv[1:2], *map(int, sys.argv[2:3]))
