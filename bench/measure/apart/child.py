"""The program of a system's process: it builds the system and answers requests until the harness closes the socket.

`bench.measure.apart.nursery` calls `serve`. Everything that a system returns is checked for its type and turned into
plain values here. The harness checks the bytes again. An exception is also an answer: its kind, one line, and the
traceback for `failures/`.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect as inspection
import json
import linecache
import math
import os
import socket
import sys
import traceback
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch

from bench.measure.apart import wire
from bench.measure.streams import stream
from bench.util.files import is_formula
from systems import registry
from systems.errors import AuditError, UserError
from systems.interface import Decoded, System, Transmission

LONGEST_LABEL = 100  # letters of a label in a figure
LONGEST_VARIANT = 255  # letters of a variant: it may be the name of a file
MOST_BITS = 16  # per use
LARGEST_DESCRIPTION = 1 << 20  # letters of JSON that `describe` may fill: the plan and the manifest hold them


def serve(connection: socket.socket, measures: list[str]) -> None:
    """Answer requests {"op": ..., ...} with {"value": ...} or {"error": ...}. measures: how
    this process is confined.
    """
    own, process = _Own(measures), os.getpid()
    while True:
        body = wire.receive(connection)
        if body is None:
            return
        answer: dict[str, Any]
        try:
            request = wire.unpack(body)
            answer = {"value": getattr(own, "do_" + request.pop("op"))(**request)}
            packed = wire.pack(answer)
        except BaseException as error:  # also sys.exit() in a system
            packed = wire.pack({"error": _told(error)})
        if os.getpid() != process:  # a copy that the system forked and that came back: only one may answer
            os._exit(0)
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        wire.send(connection, packed)


def _told(error: BaseException) -> dict[str, str]:
    kind = "user" if isinstance(error, UserError) else "audit" if isinstance(error, AuditError) else "other"
    try:
        lines = str(error).strip().splitlines() or [""]
        line = lines[0]
    except Exception:
        line = ""
    if isinstance(error, (SystemExit, KeyboardInterrupt)):
        line = f"the system ended its process ({type(error).__name__} {line})".replace(" )", ")")
    elif kind == "other":
        line = f"{type(error).__name__}: {line or 'no message'}"
    try:
        trace = "".join(traceback.format_exception(error))
    except Exception:
        trace = line
    return {"kind": kind, "line": wire.text(line)[:500], "traceback": wire.text(trace)[-20_000:]}


class _Own:
    """The system of this process, and the requests that it answers."""

    def __init__(self, measures: list[str]):
        self.measures = measures
        self.system: System | None = None
        self.send: Callable | None = None
        self.device = "cpu"
        self.columns: list[str] = []
        self.drew = False  # whether the last call drew random numbers

    def do_build(self, target: str, name: str, options: dict, device: str, columns: list[str]) -> dict[str, Any]:
        """Import and build the system. Returns the facts that the harness needs."""
        system = registry.assemble(name, target, _load(target), options)
        self.device, self.columns = device, columns
        self.system = system.to(device) or system
        if not self.system.opens_files:
            _read_ahead(target.partition(":")[0].partition(".")[0])
        return {"measures": self.measures, **_facts(self.system)}

    def do_measures(self) -> list[str]:
        """Names of the measures that confine this process."""
        return self.measures

    def do_look(self, target: str) -> dict[str, Any]:
        """The class's attributes, without building the system."""
        kind = _load(target)
        learned = inspection.isclass(kind) and any(base.__name__ == "LearnedSystem" for base in kind.__mro__)
        tasks = _texts(getattr(kind, "tasks", ()), "tasks")
        return {"tasks": tasks, "options": _texts(getattr(kind, "options", ()), "options"), "learned": learned}

    def do_work(self, target: str, work: str, arguments: dict) -> Any:
        """The result of `work`, a function of the bench ("module:function"), for the class and the arguments."""
        return _load(work)(_load(target), **arguments)

    def do_prepare(self, images: torch.Tensor, link, seed: int) -> dict[str, Any]:
        """`System.prepare`: the part of the encoding that does not depend on the SNR. images: float32 (B, 3, H, W)."""
        with self._computing(seed):
            self.send = self._system.prepare(images.to(self.device), link)
        if not callable(self.send):
            raise TypeError(f"prepare returned a {type(self.send).__name__}; it must return a function of the link")
        return {"drew": self.drew}

    def do_send(self, link, seed: int) -> dict[str, Any]:
        """The second step of `System.prepare`."""
        assert self.send is not None  # `do_prepare` comes first
        with self._computing(seed):
            sent = self.send(link)
        return self._transmission(sent)

    def do_encode(self, images: torch.Tensor, link, seed: int) -> dict[str, Any]:
        """`System.encode`. images: float32 (B, 3, H, W)."""
        with self._computing(seed):
            sent = self._system.encode(images.to(self.device), link)
        return self._transmission(sent)

    def do_decode(self, received, link, seed: int) -> dict[str, Any]:
        """`System.decode`."""
        for name in ("symbols", "csi", "noise_var", "side_info"):
            setattr(received, name, getattr(received, name).to(self.device))
        with self._computing(seed):
            decoded = self._system.decode(received, link)
        if not isinstance(decoded, Decoded):
            raise TypeError(f"decode returned a {type(decoded).__name__}; it must return a systems.Decoded")
        _tensor(decoded.output, "output")
        return {"output": decoded.output, "report": self._report(decoded.report), "drew": self.drew}

    @property
    def _system(self) -> System:
        assert self.system is not None
        return self.system

    @contextlib.contextmanager
    def _computing(self, seed: int) -> Iterator[None]:
        with torch.inference_mode(), stream(seed, self.device) as draws:
            yield
            self.drew = draws.used()

    def _transmission(self, sent: Any) -> dict[str, Any]:
        if not isinstance(sent, Transmission):
            raise TypeError(f"encode returned a {type(sent).__name__}; it must return a systems.Transmission")
        _tensor(sent.symbols, "symbols")
        if sent.side_info is not None:
            _tensor(sent.side_info, "side_info")
        made_for = sent.side_info_snr_db
        return {
            "symbols": sent.symbols,
            "side_info": sent.side_info,
            "side_info_snr_db": None if made_for is None else float(made_for),
            "report": self._report(sent.report),
            "drew": self.drew,
        }

    def _report(self, report: Any) -> dict[str, list]:
        """The values of a report as plain numbers, without the columns that samples.csv does not have."""
        if not isinstance(report, dict):
            raise TypeError(f"report is a {type(report).__name__}; it must be a dict of lists")
        own = {}
        for key, values in report.items():
            if key not in self.columns:
                continue
            if isinstance(values, torch.Tensor) or hasattr(values, "tolist"):
                values = values.tolist()
            if not isinstance(values, (list, tuple)):
                raise TypeError(
                    f"report {key!r} is a {type(values).__name__}; it must be a list with one value per picture"
                )
            own[key] = [value.item() if isinstance(value, torch.Tensor) else value for value in values]
        return own


def _load(target: str) -> Any:
    module, _, attribute = target.partition(":")
    found: Any = importlib.import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def _read_ahead(package: str) -> None:
    """Read what a sealed process cannot read later: the formats of Pillow, which it loads when the first is needed, and
    the lines of a package's modules, for tracebacks.
    """
    if "PIL.Image" in sys.modules:
        sys.modules["PIL.Image"].init()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] == package and isinstance(file, str) and (lines := linecache.getlines(file)):
            linecache.cache[file] = (len(lines), None, lines, file)  # None: it is not compared with the file


def _facts(system: System) -> dict[str, Any]:
    """The facts that a system declares about itself, as plain values."""
    told = system.describe()
    if not isinstance(told, dict):
        raise TypeError(f"describe returned a {type(told).__name__}; it must return a dict")
    description = _plain(told)
    if len(json.dumps(description)) > LARGEST_DESCRIPTION:
        raise TypeError(f"describe returned more than {LARGEST_DESCRIPTION} letters; give the facts alone")
    rate = system.bits_per_use
    if not is_bits_per_use(rate):
        raise TypeError(f"bits_per_use is {str(rate)[:40]}; it must be None or a whole number from 1 to {MOST_BITS}")
    variant = wire.text(system.variant)
    if not is_variant(variant):
        raise TypeError(
            f"variant is {variant[:40]!a}; it must be at most {LONGEST_VARIANT} printable letters, and no formula"
        )
    label, colour = str(system.label)[:LONGEST_LABEL], str(system.colour)[:LONGEST_LABEL]
    if is_formula(label):
        raise TypeError(f"label is {label!a}; it must be no formula of a sheet")
    return {
        "variant": variant,
        "bits_per_use": rate,
        "encoder_sees_snr": bool(system.encoder_sees_snr),
        "genie": bool(system.genie),
        "opens_files": bool(system.opens_files),
        "label": label,
        "colour": colour,
        "description": description,
    }


def is_variant(text: str) -> bool:
    """Whether a text can be a variant: it stands in every table, and may be the name of a file."""
    return len(text) <= LONGEST_VARIANT and text.isprintable() and not is_formula(text)


def is_bits_per_use(value: Any) -> bool:
    """Whether a value can be `bits_per_use`, as `calls.Facts` demands before a system's first call. The plan of a run
    divides by it.
    """
    return value is None or (type(value) is int and 1 <= value <= MOST_BITS)


def _plain(value: Any, depth: int = 0) -> Any:
    """A value of `describe` as JSON can hold it. JSON has no NaN and no infinity: they become texts."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict) and depth < 20:
        return {str(key): _plain(one, depth + 1) for key, one in value.items()}
    if isinstance(value, (list, tuple)) and depth < 20:
        return [_plain(one, depth + 1) for one in value]
    return str(value)


def _texts(values: Any, attribute: str) -> list[str]:
    kept: list[Any] = list(values) if isinstance(values, Collection) and not isinstance(values, str) else [None]
    if not all(isinstance(value, str) for value in kept):  # a generator could be read only once
        raise TypeError(f"{attribute} is {values!r}; it must be a tuple of names")
    return kept


def _tensor(value: Any, name: str) -> None:
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} is a {type(value).__name__}; it must be a tensor")
