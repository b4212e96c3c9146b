"""The notebook results/tour.ipynb: it is committed executed, and its cells run as they stand there."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = json.loads((ROOT / "results" / "tour.ipynb").read_text(encoding="utf-8"))
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_it_is_committed_executed_and_without_errors():
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    outputs = [output for cell in CODE for output in cell["outputs"]]
    assert len(outputs) >= 4 and {output["output_type"] for output in outputs} <= {"execute_result", "display_data"}


def test_its_cells_run():
    script = "\n".join("".join(cell["source"]) for cell in CODE)
    env = {**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
