"""A machine lent for training has torch, torchvision, timm, safetensors, numpy, Pillow and click, and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ABSENT = (
    "numba sionna matplotlib pandas scipy sklearn skimage commpy threadpoolctl rich sentence_transformers pillow_heif "
    "ai_edge_litert submitit IPython"
).split()

SCRIPT = f"""
import sys
for name in {ABSENT!r}:
    sys.modules[name] = None  # an import of it fails
from bench.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("systems", ["deepjscc", "gensc-select,adjscc-select"])
def test_training_needs_no_package_but_those(ground, systems):
    root, protocol = ground
    path = protocol(8)
    path.write_text(path.read_text().replace("validate_every = 4", "validate_every = 2"))
    arguments = ["train", "--systems", systems, "--config", str(path), "--data-root", str(root)]
    arguments += ["--out", str(root / "out"), "--device", "cpu", "--threads", "1"]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    for name in systems.split(","):
        assert (root / "out" / f"{name}-small" / f"{name}-small.safetensors").is_file()
        assert (root / "out" / f"{name}-small" / "metrics.csv").read_text().count("\n") >= 2
