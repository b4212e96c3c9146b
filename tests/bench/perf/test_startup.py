"""Tests of what a start costs: a run in size small imports no package that it does not need."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
#: Each costs half a second to four seconds of CPU, in the command and once more in the nursery. (timm and torchvision
#: cost three seconds too; the networks are built with them.)
HEAVY = "sionna matplotlib sklearn skimage sentence_transformers"


def test_a_run_imports_and_builds_its_systems_without_heavy_packages():
    """All of the bench's own systems, the worker, and what the nursery holds; learned systems are also built."""
    script = (
        "import sys\n"
        "import bench.sweep.worker\n"
        "from bench.measure.apart import child\n"
        "from bench.measure.apart.ahead import import_ahead\n"
        "from systems import create, registry\n"
        "import_ahead(registry.own_modules())\n"
        "for name in ('gensc', 'deeplab-jscc', 'jpeg-ldpc-16qam-fcn'):\n"
        "    create(name)\n"
        "missing = registry.own_modules() - set(sys.modules)\n"
        "assert not missing, missing\n"
        f"heavy = {set(HEAVY.split())!r} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
