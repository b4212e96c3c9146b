"""Tests of the computation of a codebook: it gives the same file in every process."""

import os
import subprocess
import sys

FIT = """
import hashlib, sys
import numpy as np, torch
from baselines.select.fit import FitOptions, fit

torch.set_num_threads(int(sys.argv[1]))
rng = np.random.default_rng(0)
pictures = []
for side in (96, 112, 128, 96, 160):  # smooth noise of several scales, with edges
    octaves = [np.kron(rng.random((3, side // s, side // s)), np.ones((s, s))) for s in (2, 4, 8, 16)]
    pictures.append(torch.from_numpy(np.clip(sum(octaves) / 4, 0, 1)).float())
tensors = fit(iter(pictures), FitOptions(classes=6, rotated=4, blocks=40, rounds=3, maps=2, rates=1)).tensors()
assert len(np.unique(tensors["levels"], axis=0)) > 1, "the classes are all the same"
print(hashlib.sha256(b"".join(key.encode() + tensors[key].tobytes() for key in sorted(tensors))).hexdigest())
"""


def test_the_codebook_does_not_depend_on_threads_or_on_the_hash_seed():
    """Two processes with different numbers of threads and hash seeds compute the same bytes."""
    found = set()
    for threads in ("1", "2"):
        own = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "PYTHONHASHSEED": threads}
        done = subprocess.run([sys.executable, "-c", FIT, threads], env=own, capture_output=True, text=True, check=True)
        found.add(done.stdout.strip())
    assert len(found) == 1 and len(found.pop()) == 64
