"""Takes each rule of the comparison out of a copy of the tree, and demands that one of its named tests fails.

`cases.py` holds the mutations. A fast test checks that each of them still fits the tree, so the list cannot rot. To run
some of them: `python -m pytest -m slow tests/mutations -k "budget or salt"`. In /tmp one of them is skipped; it needs a
`--basetemp` elsewhere.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cases import CASES

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(".git", ".*_cache", ".venv", "mutations")


def left_out(folder: str, names: list[str]) -> set[str]:
    """What the copy does without: of the two folders `results`, only that of runs, not the package of the bench."""
    return {*LEFT_OUT(folder, names), *(["results"] if Path(folder) == ROOT else [])}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_a_mutation_fits_the_tree_and_names_tests_that_exist(case):
    text = (ROOT / case.file).read_text(encoding="utf-8")
    assert text.count(case.old) == 1 and case.old != case.new
    if case.file.endswith(".py"):
        ast.parse(text.replace(case.old, case.new))
    for test in case.tests:
        file, _, name = test.partition("::")
        assert f"def {name.partition('[')[0]}(" in (ROOT / file).read_text(encoding="utf-8"), test


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A process in a copy of the tree that has imported the libraries; it forks for each case."""
    copy = tmp_path_factory.mktemp("mutated") / "tree"
    shutil.copytree(ROOT, copy, ignore=left_out)  # with byte code, which is valid because it keeps the times of files
    (copy / "results").mkdir()
    files = {test.partition("::")[0] for case in CASES for test in case.tests}
    command = [sys.executable, Path(__file__).with_name("runner.py"), *sorted(files)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               cwd=copy, env={**os.environ, "PYTHONPATH": str(copy)})  # fmt: skip
    yield process
    process.stdin.close()
    process.wait(60)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="it forks")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_no_rule_can_be_taken_out_unnoticed(warm, case):
    print(json.dumps(case._asdict()), file=warm.stdin, flush=True)
    told = json.loads(warm.stdout.readline())
    if told["skipped"] and not told["passed"] + told["failed"]:
        pytest.skip("its tests are skipped on this machine")
    assert told["failed"], f"no test notices it; {told}"
