"""The frozen teacher of segmentation. It makes a class map of every training picture, once, and the map is stored.

`run` and `data pack` call it. A protocol names the teacher: "fcn" is the FCN that ships with the bench. A path that
ends in .tflite (under the data root) is a DeepLab v3 in the format of TensorFlow Lite, run by the package
`ai-edge-litert` (extra `teacher`). All systems of a comparison learn from the same maps. With them, pictures without a
mask can be used for training.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol as Interface

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from bench.training.pack_format import decode_class_map
from bench.training.picture import Picture
from bench.util.cache_folder import cache_folder
from bench.util.files import StorageError, read_bytes, user_path, write_atomic
from systems.errors import UserError, missing_package
from systems.interface import NUM_CLASSES


class Teacher(Interface):
    """Anything that labels pictures. name: for sidecars. sha256: of everything that decides its labels."""

    name: str
    sha256: str

    def classes(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels uint8 (H, W, 3) -> class ids uint8 (h, w) of the whole picture, at the teacher's own size."""
        ...


class TFLiteTeacher:
    """DeepLab v3 from a file of TensorFlow Lite.

    Its input is (1, s, s, 3), float32 in [-1, 1] or uint8. Its output is logits (1, s, s, 21), or class ids (1, s, s)
    as whole numbers.
    Raises MissingDependency without its package, UserError if the file is missing or no such model.
    """

    def __init__(self, path: Path):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise missing_package(f"teacher {path.name}", "ai-edge-litert") from None
        if not path.is_file():
            raise UserError(f"{path}: no such teacher; set --data-root, or `teacher` in the protocol")
        content = path.read_bytes()
        self.name = path.stem
        self.sha256 = hashlib.sha256(content).hexdigest()
        try:
            self._interpreter = Interpreter(model_content=content, num_threads=torch.get_num_threads())
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{path}: not a TensorFlow Lite model ({error})") from None
        self._input, self._output = self._interpreter.get_input_details()[0], self._interpreter.get_output_details()[0]
        shape, kind = tuple(map(int, self._output["shape"])), self._output["dtype"]
        labels = len(shape) == 3 and np.issubdtype(kind, np.integer)
        logits = len(shape) == 4 and shape[-1] == NUM_CLASSES
        if self._input["dtype"] not in (np.float32, np.uint8) or not (labels or logits):
            raise UserError(
                f"{path}: a teacher takes float32 or uint8 pictures and gives {NUM_CLASSES} logits per pixel, or "
                f"classes; this one gives {np.dtype(kind).name} {shape}"
            )

    def classes(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels uint8 (H, W, 3) -> class ids uint8 (s, s) of the whole picture."""
        height, width = (int(side) for side in self._input["shape"][1:3])
        # Pillow's resize with antialiasing, as in DeepLab's own demonstration.
        small = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
        values = np.asarray(small)[None]
        if self._input["dtype"] == np.float32:
            values = values.astype(np.float32) / 127.5 - 1
        self._interpreter.set_tensor(self._input["index"], np.ascontiguousarray(values))
        self._interpreter.invoke()
        out = self._interpreter.get_tensor(self._output["index"])[0]
        return (out if out.ndim == 2 else out.argmax(axis=-1)).astype(np.uint8)


class FCNTeacher:
    """The FCN that ships with the bench, at the size of the picture."""

    def __init__(self, device: str):
        from baselines.fcn import FCN

        self._network, self._device = FCN().to(device), device
        self.name = f"fcn {self._network.variant}"
        self.sha256 = self._network.facts["sha256"]

    @torch.inference_mode()
    def classes(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels uint8 (H, W, 3) -> class ids uint8 (H, W)."""
        images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].to(self._device).float() / 255
        return self._network.segment(images).argmax(dim=1)[0].to(torch.uint8).cpu().numpy()


def check_teacher(name: str, root: Path) -> None:
    """Raise UserError if a protocol's teacher is unknown or its file is missing. Nothing is loaded."""
    if name.endswith(".tflite"):
        if not (root / user_path(name, "--teacher")).is_file():
            raise UserError(f"{root / name}: no such teacher; set --data-root, or `teacher` in the protocol")
    elif name not in ("none", "fcn"):
        raise UserError(
            f"unknown teacher {name!r} in the protocol; it is none, fcn, or a .tflite file under the data root"
        )


def load_teacher(name: str, root: Path, device: str = "cpu") -> Teacher:
    """The teacher that a protocol names. Raises UserError if there is none."""
    check_teacher(name, root)
    return FCNTeacher(device) if name == "fcn" else TFLiteTeacher(root / name)


def teacher_name(name: str) -> str:
    """The name of a protocol's teacher in a pack: the file name without its ending."""
    return Path(name).stem if name.endswith(".tflite") else name


def with_labels(
    pictures: Sequence[Picture],
    name: str,
    root: Path,
    device: str = "cpu",
    store: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> list[Picture]:
    """The pictures, each with the labels of the teacher `name`.

    Labels that came with the pictures (from a pack) stay if they are from this teacher. Others are read from `store`
    (default: the cache folder), or computed and stored there: one PNG per picture, named by the sha256 of the teacher
    and of the picture.
    Raises UserError or MissingDependency as `load_teacher` does.
    """
    wanted = teacher_name(name)
    if all(picture.labels is not None and picture.teacher.split(" ")[0] == wanted for picture in pictures):
        return list(pictures)
    teacher = load_teacher(name, root, device)
    store = (store or cache_folder() / "teacher") / teacher.sha256[:16]
    done, start, shown, made = [], time.monotonic(), time.monotonic(), 0
    for number, picture in enumerate(pictures):
        if picture.labels is not None and picture.teacher == teacher.name:
            done.append(picture)
            continue
        path = store / f"{picture.digest}.png"
        try:
            labels = decode_class_map(read_bytes(path), path)
        except (OSError, UserError):  # not computed yet, or damaged
            labels = teacher.classes(picture.pixels)
            file = io.BytesIO()
            Image.fromarray(labels).save(file, "PNG", optimize=True)
            with contextlib.suppress(StorageError):  # a cache: without it the labels are computed again next time
                write_atomic(path, file.getvalue())
            made += 1
        done.append(replace(picture, labels=labels, teacher=teacher.name))
        now = time.monotonic()
        if say and made and now - shown > 10:
            shown, left = now, (now - start) / (number + 1) * (len(pictures) - number - 1)
            say(f"labels of {teacher.name}: {number + 1} of {len(pictures)}, ETA {left / 60:.1f} min; kept in {store}")
    return done


def soften(mask: torch.Tensor, labels: torch.Tensor | None, weight: float, void: int) -> torch.Tensor:
    """The target of `pixel_cross_entropy`: the ground truth, mixed with the teacher's class, which has the weight
    `weight`.

    mask, labels: class ids int64 (B, H, W), `void` where nothing is known. Returns class probabilities float32
    (B, 21, H, W). Where the ground truth is void, the teacher's class has probability 1. Where both are void, all
    probabilities are 0. Without labels, or with weight 0, the mask itself is returned.
    """
    if labels is None or weight == 0:
        return mask
    known, taught = mask != void, labels != void
    share = torch.where(taught, torch.where(known, weight, 1.0), 0.0)
    own = torch.where(known, 1.0 - share, 0.0)
    hard = F.one_hot(mask.masked_fill(~known, 0), NUM_CLASSES) * own[..., None]
    soft = F.one_hot(labels.masked_fill(~taught, 0), NUM_CLASSES) * share[..., None]
    return (hard + soft).permute(0, 3, 1, 2).float()
