"""Tests of the notebook results/tour.ipynb: it is committed with its outputs, and its cells run."""

import json
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK_PATH = ROOT / "results" / "tour.ipynb"
NOTEBOOK = json.loads(NOTEBOOK_PATH.read_text(encoding="utf-8"))
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_it_is_committed_executed_and_without_errors():
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    outputs = [output for cell in CODE for output in cell["outputs"]]
    assert NOTEBOOK_PATH.stat().st_size < 100_000
    assert len(outputs) >= 4 and {output["output_type"] for output in outputs} <= {"execute_result", "display_data"}


def test_its_cells_run(monkeypatch):
    """They run with names of their own, as in a fresh kernel. Their settings of pandas and matplotlib are undone
    afterwards.
    """
    import matplotlib.pyplot as plt

    script = "\n".join("".join(cell["source"]) for cell in CODE)
    monkeypatch.chdir(ROOT)
    try:
        with pd.option_context("display.float_format", None):
            exec(compile(script, NOTEBOOK_PATH.name, "exec"), {"__name__": "__main__"})
    finally:
        plt.close("all")
