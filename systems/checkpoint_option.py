"""Reads the text of the option `--checkpoint`: "shipped", "none", one file, or one file per SNR ("1=FILE,7=FILE").

The registry, plans and manifests call it, so nothing here imports torch.
"""

from __future__ import annotations

import re
from pathlib import Path

from systems.errors import CheckpointError

#: Words in place of a file: the weights in the package, random weights, and torchvision's weights of the FCN.
WORDS = ("shipped", "none", "torchvision")
_PART = re.compile(r"(-?\d+(?:\.\d+)?)=(.+)")


def split(checkpoint: str) -> dict[float, str]:
    """SNR in dB -> file, from "1=FILE,7=FILE". Any other text gives an empty dict.

    Raises CheckpointError if the same SNR stands twice.
    """
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
    """The inverse of `split`."""
    return ",".join(f"{snr:g}={file}" for snr, file in files.items())


def files_of(checkpoint: str) -> list[Path]:
    """The files that a checkpoint names, whether or not they exist. Words such as "shipped" and "none" name no file."""
    if checkpoint in ("", *WORDS):
        return []
    return [Path(file) for file in split(checkpoint).values()] or [Path(checkpoint)]


def without_folders(checkpoint: str) -> str:
    """The text of the checkpoint for a manifest: file names without their folders."""
    files = split(checkpoint)
    return join({snr: Path(file).name for snr, file in files.items()}) if files else Path(checkpoint).name


def absolute(checkpoint: str) -> str:
    """The same checkpoint with absolute paths, for a process in another working directory. Words such as "shipped"
    stay.
    """
    if checkpoint in WORDS:
        return checkpoint
    files = {snr: _absolute(file) for snr, file in split(checkpoint).items()}
    return join(files) if files else _absolute(checkpoint)


def _absolute(file: str) -> str:
    try:
        return str(Path(file).expanduser().absolute())
    except RuntimeError:  # "~name", and this machine has no user of that name
        raise CheckpointError(f"--checkpoint {file!r}: there is no such home folder; write the path in full") from None
