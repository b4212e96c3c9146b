"""Helpers of the runner's tests: test systems behind a real entry point, small pictures, and commands."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.cli import main
from systems import registry

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PLUGIN = HERE / "plugin"
EXAMPLE = HERE.parent / "example_plugin"


def make_distribution(folder: Path) -> list[str]:
    """Write the metadata that makes the test systems an installed distribution; returns the
    paths that sys.path needs.
    """
    sys.path.insert(0, str(PLUGIN))
    sys.path.insert(0, str(EXAMPLE))
    from bench_test_systems import ENTRY_POINTS

    info = folder / "bench_test_systems-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bench-test-systems\nVersion: 1.0\n")
    lines = [f"{name} = bench_test_systems:{attribute}" for name, attribute in ENTRY_POINTS.items()]
    (info / "entry_points.txt").write_text("[semantic_bench.systems]\n" + "\n".join(lines) + "\n")
    return [str(folder), str(PLUGIN), str(EXAMPLE)]


def make_pictures(folder: Path, count: int = 10) -> Path:
    """Write smooth random colour pictures of two sizes."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(7)
    for index in range(count):
        height, width = (24, 32) if index % 3 else (32, 24)
        coarse = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(folder / f"p{index:02d}.png")
    return folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Make the test systems known to this process and to its children."""
    before = list(sys.path)
    paths = make_distribution(tmp_path_factory.mktemp("site"))
    sys.path[:0] = paths
    registry.discover()
    yield paths
    sys.path[:] = before
    registry.discover()


@pytest.fixture
def place(installed, tmp_path, monkeypatch):
    """A working directory with pictures; the test systems write their logs there and find their switches for faults
    there.
    """
    make_pictures(tmp_path / "pictures")
    (tmp_path / "faults").mkdir()
    monkeypatch.setenv("BENCH_TEST_FAULTS", str(tmp_path / "faults"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def forked_workers(monkeypatch):
    """Make workers fork, as a command does, whose process has one thread.

    A process of pytest-xdist has a second thread, so each worker would be spawned and would import torch for seconds.
    That thread waits for messages and holds no lock that a worker takes, so a fork is safe.
    """
    if sys.platform == "linux":
        monkeypatch.setattr("bench.sweep.engines.process.may_fork", lambda work: True)


def answer_near(monkeypatch) -> None:
    """From now on in this test, threads answer for third parties' systems (see `near`)."""
    from near import NearCall

    from bench.measure.apart import Home

    monkeypatch.setattr(Home, "open", lambda home, sight, seal=False: NearCall())


@pytest.fixture
def near_systems(monkeypatch):
    """For tests of the harness around third parties' systems; not of what only a process keeps apart or dies of."""
    answer_near(monkeypatch)


def hostile(home, kind: str, secrets=(), printed: list[str] | None = None, **options):
    """A `RemoteSystem` of a class of `plugin/hostile_systems.py`. secrets: what it may not open. printed: gets what it
    prints.
    """
    from bench.measure.apart import RemoteSystem, Sight, inspect
    from bench.measure.audit import REPORT_COLUMNS

    target, said = f"hostile_systems:{kind}", (lambda text: None) if printed is None else printed.append
    facts, sight = inspect(home, "hostile", target, options), Sight.of(target, options, secrets)
    return RemoteSystem(home, "hostile", target, options, facts, sight, sorted(REPORT_COLUMNS), printed=said)


def call(capsys, *arguments: object) -> tuple[int, str, str]:
    """The command line in this process: exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    out = capsys.readouterr()
    return stop.value.code, out.out, out.err


def environment(paths: list[str], **extra: str) -> dict[str, str]:
    """The environment of a command that has the test systems installed."""
    path = os.pathsep.join([str(ROOT), *paths])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **extra}


def bench(*arguments: object, env: dict[str, str], cwd: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run `python -m bench ...` to its end."""
    command = [sys.executable, "-m", "bench", *map(str, arguments)]
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)


EACH = """
import json, sys
from bench.cli import main
for command in json.loads(sys.argv[1]):
    try:
        main(command)
    except SystemExit as stop:
        if stop.code:
            sys.exit(f"{command} ended with {stop.code}")
    print("\\f", end="", flush=True)
"""


def bench_each(
    *commands: tuple[object, ...], env: dict[str, str], cwd: Path, timeout: float = 500, before: str = ""
) -> list[str]:
    """Run several commands one after another in one fresh Python, which imports torch once;
    returns what each prints. before: code that runs first.
    """
    told = json.dumps([[str(word) for word in command] for command in commands])
    done = subprocess.run([sys.executable, "-c", before + EACH, told], env=env, cwd=cwd, capture_output=True, text=True,
                          timeout=timeout, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout.split("\f")[:-1]


def rows(path: Path) -> list[dict[str, str]]:
    """Read a CSV table."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def without_costs(path: Path) -> list[dict[str, str]]:
    """samples.csv without its timing columns."""
    from bench.results.schema import COST_COLUMNS

    return [{key: value for key, value in row.items() if key not in COST_COLUMNS} for row in rows(path)]


def killed_at(stop: int, names: Iterable[str]) -> list[int]:
    """Make this process kill itself at call number `stop` (0: never) of the functions `names` of os, counted from now.

    Returns the count of the calls so far, a list of one number.
    """
    count = [0]

    def counted(call):
        def wrapper(*arguments, **options):
            count[0] += 1
            if count[0] == stop:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return wrapper

    for name in names:
        setattr(os, name, counted(getattr(os, name)))
    return count
