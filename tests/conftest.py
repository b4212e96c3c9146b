"""Settings of all tests: no network access to model hubs, no window, and one thread per numerical library. And their
order: the files that take longest come first.
"""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
# Tests with several threads: those of OpenMP that wait for work sleep. By default they spin, which on a busy machine
# takes ten times the work's own time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

#: The files that take longest. `make test` gives whole files to its workers: if one of these came last, all but one
#: worker would wait for it.
LONGEST = (
    "bench/sweep/test_sweep.py", "bench/cli/test_outsiders.py", "bench/perf/test_perf.py", "bench/cli/test_cli.py",
    "bench/measure/test_apart.py", "bench/sweep/test_runs.py", "bench/training/test_trainer.py",
    "bench/sweep/test_engines.py", "bench/cli/test_new.py", "bench/training/test_run.py",
    "bench/report/test_figures.py", "baselines/digital/test_layered.py", "bench/measure/test_seal.py",
    "systems/test_conformance.py", "baselines/digital/test_codec.py", "bench/measure/test_hooks.py",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    """Put the longest files first. All others stay in their order."""
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(LONGEST)}
    assert all(map(Path.is_file, ranks)), "LONGEST in tests/conftest.py names a file that is not there"
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))
