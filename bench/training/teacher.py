"""The frozen teacher of segmentation: soft labels beside the ground truth, the same for every system of a comparison.

A protocol names it: "fcn" is the FCN that ships with the bench, a path ending in .tflite (under the data root) a
DeepLab v3 in TensorFlow Lite's format, run by the package `ai-edge-litert` (extra `teacher`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from systems.errors import MissingDependency, UserError
from systems.interface import NUM_CLASSES


class TFLiteTeacher:
    """DeepLab v3 from a TensorFlow Lite file: float input (1, s, s, 3) in [-1, 1], float logits (1, s, s, 21)."""

    def __init__(self, path: Path):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise MissingDependency(
                f"teacher {path.name} needs the package ai-edge-litert; `pip install ai-edge-litert`"
            ) from None
        if not path.is_file():
            raise UserError(f"{path}: no such teacher; set --data-root, or `teacher` in the protocol")
        content = path.read_bytes()
        self.variant = path.stem
        self.facts = {"sha256": hashlib.sha256(content).hexdigest()}
        try:
            self._interpreter = Interpreter(model_content=content, num_threads=1)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{path}: not a TensorFlow Lite model ({error})") from None
        self._input, self._output = self._interpreter.get_input_details()[0], self._interpreter.get_output_details()[0]
        if self._output["shape"][-1] != NUM_CLASSES or self._input["dtype"] != np.float32:
            raise UserError(
                f"{path}: the teacher needs float input and {NUM_CLASSES} logits a pixel, "
                f"this one gives {tuple(self._output['shape'])}"
            )

    def segment(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> logits float32 (B, 21, H, W)."""
        size = tuple(int(side) for side in self._input["shape"][1:3])
        inputs = F.interpolate(images.float().cpu(), size, mode="bilinear", align_corners=False) * 2 - 1
        logits = []
        for image in inputs.permute(0, 2, 3, 1).contiguous().numpy():
            self._interpreter.set_tensor(self._input["index"], image[None])
            self._interpreter.invoke()
            logits.append(torch.from_numpy(self._interpreter.get_tensor(self._output["index"])))
        logits = torch.cat(logits).permute(0, 3, 1, 2)
        return F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False).to(images.device)


def load_teacher(name: str, root: Path, device: str):
    """The teacher that a protocol names; it has `segment`, `variant` and `facts`. UserError where there is none
    such."""
    if name == "fcn":
        from baselines.fcn import FCN

        return FCN.load().to(device)
    if name.endswith(".tflite"):
        return TFLiteTeacher(root / name)
    raise UserError(f"unknown teacher {name!r} in the protocol; it is none, fcn, or a .tflite file under the data root")
