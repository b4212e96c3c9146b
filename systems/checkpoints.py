"""What a checkpoint's text names: "shipped", "none", one file, or one file per SNR ("1=FILE,7=FILE").

Read by the registry, by plans and by manifests, so nothing here imports torch.
"""

from __future__ import annotations

import re
from pathlib import Path

from systems.errors import CheckpointError

#: Checkpoints that are no files: the weights of the package, random ones, and torchvision's of the FCN.
WORDS = ("shipped", "none", "torchvision")
_PART = re.compile(r"(-?\d+(?:\.\d+)?)=(.+)")


def split(checkpoint: str) -> dict[float, str]:
    """SNR in dB -> file, from "1=FILE,7=FILE"; empty for any other text. CheckpointError if an SNR stands twice."""
    parts = [_PART.fullmatch(part) for part in checkpoint.split(",")]
    if not all(parts):
        return {}
    found: dict[float, str] = {}
    for match in parts:
        assert match is not None
        if float(match[1]) in found:
            raise CheckpointError(f"--checkpoint names two files for {match[1]} dB; give one per SNR")
        found[float(match[1])] = match[2]
    return found


def join(files: dict[float, str]) -> str:
    """Inverse of `split`."""
    return ",".join(f"{snr:g}={file}" for snr, file in files.items())


def files_of(checkpoint: str) -> list[Path]:
    """The files that a checkpoint names, whether or not they are there; none for "shipped" and "none"."""
    if checkpoint in ("", *WORDS):
        return []
    return [Path(file) for file in split(checkpoint).values()] or [Path(checkpoint)]


def without_folders(checkpoint: str) -> str:
    """The checkpoint's text for a manifest: file names alone."""
    files = split(checkpoint)
    return join({snr: Path(file).name for snr, file in files.items()}) if files else Path(checkpoint).name


def absolute(checkpoint: str) -> str:
    """The same checkpoint for a process with another working directory. Words such as "shipped" stay as they are."""
    if checkpoint in WORDS:
        return checkpoint
    files = {snr: str(Path(file).expanduser().absolute()) for snr, file in split(checkpoint).items()}
    return join(files) if files else str(Path(checkpoint).expanduser().absolute())
