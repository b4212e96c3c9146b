"""Systems that run in separate processes (`RemoteSystem`), the facts that such a system declares (`inspect`), and other
work that needs its class (`inspect_with`).

`bench.sweep.worker`, `bench.spec.identity` and `bench.perf.flops` call it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.measure.apart import wire
from bench.measure.apart.child import LARGEST_DESCRIPTION, LONGEST_LABEL, is_bits_per_use, is_variant
from bench.measure.apart.nursery_client import BUILD_VARIABLE, Call, Home, RemoteFailure, TooLate, build_seconds
from bench.measure.apart.readable_files import Sight
from bench.util.files import is_formula
from systems.errors import AuditError, UserError
from systems.interface import Decoded, Link, Received, System, Transmission


class RemoteSystem(System):
    """A system whose every encoding and decoding runs in a new confined process.

    facts: as `inspect` returns them.
    columns: the columns of a report that the table has.
    printed: called with the text that a process printed. The attribute `deadline` is a time of `time.monotonic`; the
    worker sets it for each cell. At most one process of a system exists at a time: the encoder's ends before a
    decoder's starts.
    """

    joins_snr = False  # no batch may hold several observations of a picture: a real receiver has only one

    def __init__(
        self,
        home: Home,
        name: str,
        target: str,
        options: dict[str, Any],
        facts: dict[str, Any],
        sight: Sight,
        columns: Sequence[str],
        device: str = "cpu",
        printed: Callable[[str], None] = lambda text: None,
    ):
        super().__init__(name)
        self.home, self.target, self.given, self.sight = home, target, options, sight
        self.columns, self.device, self.printed = list(columns), device, printed
        self.variant, self.bits_per_use = facts["variant"], facts["bits_per_use"]
        self.encoder_sees_snr = bool(facts["encoder_sees_snr"])
        self.genie = bool(facts.get("genie"))
        self.opens_files = bool(facts["opens_files"])
        self.deadline: float | None = None
        self.measures: list[str] = []
        self.sealed = False  # whether the last call was sealed
        self._encoder: Call | None = None
        self._overhead = 0.0

    def prepare(self, images: Tensor, link: Link) -> Callable[[Link], Transmission]:
        """See `System.prepare`. images: float32 (B, 3, H, W) in [0, 1].

        The process of the first step waits for the second step, unless a decoding comes in between.
        """
        seed = _seed()
        self._prepare(images, link, seed)
        mine = self._encoder

        def send(at: Link) -> Transmission:
            nonlocal mine
            if mine is None or not mine.open or mine is not self._encoder:
                self._prepare(images, link, seed)
                mine = self._encoder
            assert mine is not None  # `_prepare` made it
            return self._transmission(self._asked(mine, "send", link=at, seed=_seed()), len(images))

        return send

    def encode(self, images: Tensor, link: Link) -> Transmission:
        """See `System.encode`. images: float32 (B, 3, H, W) in [0, 1]. Raises RemoteFailure and WireError."""
        self.rest()
        call = self._open()
        try:
            return self._transmission(self._asked(call, "encode", images=images, link=link, seed=_seed()), len(images))
        finally:
            self._close(call)

    def decode(self, received: Received, link: Link) -> Decoded:
        """See `System.decode`. Symbols (B, n) -> pictures (B, 3, H, W) or logits (B, 21, H, W). Raises RemoteFailure
        and WireError.
        """
        self.rest()
        call = self._open()
        try:
            told = self._asked(call, "decode", received=received, link=link, seed=_seed())
            _note_draws(told)
            output, batch = told["output"].to(received.symbols.device), len(received.symbols)
            self._check_rows("output", output, batch)
            return Decoded(output, _report(told, batch))
        except (KeyError, AttributeError, TypeError):
            raise wire.WireError(wire.NO_MESSAGE) from None
        finally:
            self._close(call)

    def rest(self) -> None:
        """End the encoder's process, if one is waiting."""
        if self._encoder is not None:
            self._close(self._encoder)
            self._encoder = None

    def take_overhead(self) -> float:
        """Seconds that starting processes and building systems took since the last call: no cost of the system's."""
        taken, self._overhead = self._overhead, 0.0
        return taken

    def _check_rows(self, what: str, rows: Any, pictures: int) -> None:
        """AuditError unless each picture of this call has one row. The harness may join single pictures to a batch:
        there a picture with two rows would take the place of one with none. Tensors without rows are audited later.
        """
        if isinstance(rows, Tensor) and rows.ndim and len(rows) != pictures:
            raise AuditError(
                f"audit: system {self.name}: {len(rows)} rows of {what} for {pictures} pictures; each needs one"
            )

    def _prepare(self, images: Tensor, link: Link, seed: int) -> None:
        self.rest()
        self._encoder = self._open()
        _note_draws(self._asked(self._encoder, "prepare", images=images, link=link, seed=seed))

    def _open(self) -> Call:
        start = time.perf_counter()
        seal = not self.opens_files and not self.device.startswith("cuda")  # CUDA opens devices and loads code late
        call = self.home.open(self.sight, seal)
        try:
            told = self._asked(call, "build", target=self.target, name=self.name, options=self.given,
                               device=self.device, columns=self.columns)  # fmt: skip
            measures = told.get("measures") if isinstance(told, dict) else None
            if not isinstance(measures, list) or not all(isinstance(name, str) for name in measures):
                raise wire.WireError(wire.NO_MESSAGE)
            self.measures = measures
            sealed = seal and self._in_time(lambda: call.seal(self.deadline))
            if sealed < self.sealed:  # the manifest says that it is sealed
                raise RemoteFailure("its process could not be sealed, and was sealed before")
            self.sealed = sealed
        except BaseException:
            self._close(call)
            raise
        self._overhead += time.perf_counter() - start
        return call

    def _asked(self, call: Call, operation: str, **arguments: Any) -> Any:
        try:
            return self._in_time(lambda: call.ask(operation, self.deadline, **arguments))
        except (UserError, AuditError) as error:  # in its own words, which could be about another system
            raise type(error)(_said(self.name, error)) from None

    def _in_time(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except TimeoutError:
            raise TooLate("the system gave no answer within the time limit of a cell (--cell-timeout)") from None

    def _close(self, call: Call) -> None:
        printed = call.close()
        if printed:
            self.printed(printed)

    def _transmission(self, told: Any, batch: int) -> Transmission:
        try:
            _note_draws(told)
            self._check_rows("symbols", told["symbols"], batch)
            self._check_rows("side information", told["side_info"], batch)
            made_for = told["side_info_snr_db"]
            made_for = None if made_for is None else float(made_for)
            return Transmission(told["symbols"], told["side_info"], _report(told, batch), side_info_snr_db=made_for)
        except (KeyError, AttributeError, TypeError, ValueError, OverflowError):
            raise wire.WireError(wire.NO_MESSAGE) from None


def inspect(home: Home, name: str, target: str, options: dict[str, Any], build: bool = True) -> dict[str, Any]:
    """Ask a system about itself in a confined process.

    build: True: build the system and return its facts. False: only look at its class (tasks, options, learned).
    Raises UserError if the system cannot be loaded or built, or takes longer than `build_seconds`.
    """
    seconds = build_seconds()
    call = home.open(Sight.of(target, options))
    deadline = time.monotonic() + seconds
    try:
        try:
            if build:
                told = call.ask("build", deadline, target=target, name=name, options=options, device="cpu", columns=[])
            else:
                told = call.ask("look", deadline, target=target)
        except UserError as error:
            raise UserError(_said(name, error)) from None
        if not (_are_facts(told) if build else _is_look(told)):
            raise UserError(f"system {name!r}: cannot use {target}: its process says of it what no system can be")
        return told
    except TimeoutError:
        raise UserError(
            f"system {name!r}: {target} is not {'built' if build else 'imported'} after {seconds:g} s; mend or "
            f"uninstall its package, or give it more time by the environment variable {BUILD_VARIABLE}"
        ) from None
    except (RemoteFailure, AuditError, wire.WireError) as error:
        raise UserError(f"system {name!r}: cannot use {target} ({error})") from None
    finally:
        call.close()


def _said(name: str, error: Exception) -> str:
    """An error in the words of the system `name`, under its name: no system speaks as the harness or as another."""
    line, known = str(error), (f"system {name!r}", f"system {name}", f"audit: system {name}")
    return line if any(line.startswith(f"{own}:") for own in known) else f"system {name!r}: {line}"


def inspect_with(
    home: Home,
    target: str,
    options: dict[str, Any],
    work: str,
    arguments: dict[str, Any],
    seconds: float,
    secrets: Iterable[Path] = (),
) -> Any:
    """`work` ("module:function" of the bench), called with a system's class and `arguments` in a confined process.

    options: decide which files it may open. secrets: files and folders that it may not. What it returns is the word of
    the system's process. Raises UserError, RemoteFailure (also if it takes longer than `seconds`) and WireError.
    """
    call = home.open(Sight.of(target, options, secrets))
    try:
        return call.ask("work", time.monotonic() + seconds, target=target, work=work, arguments=arguments)
    except TimeoutError:
        raise RemoteFailure(f"no answer within {seconds:g} s") from None
    finally:
        call.close()


_FACTS: dict[str, Any] = {
    "measures": list, "variant": str, "bits_per_use": (int, type(None)), "encoder_sees_snr": bool,
    "genie": bool, "opens_files": bool, "label": str, "colour": str, "description": dict,
}  # fmt: skip


def _are_facts(told: Any) -> bool:
    """Whether these are facts as `child` gives them. A system can write to the socket itself, past all checks there."""
    if not isinstance(told, dict) or told.keys() != _FACTS.keys():
        return False
    try:
        size = len(json.dumps(told, allow_nan=False))
    except (TypeError, ValueError, RecursionError):  # a tensor in the description, or NaN
        return False
    if not all(isinstance(told[key], kind) for key, kind in _FACTS.items()) or size >= 2 * LARGEST_DESCRIPTION:
        return False
    short = len(told["label"]) <= LONGEST_LABEL and len(told["colour"]) <= LONGEST_LABEL
    return (
        is_variant(told["variant"]) and is_bits_per_use(told["bits_per_use"]) and short
        and not is_formula(told["label"])
    )  # fmt: skip


def _is_look(told: Any) -> bool:
    """Whether these are the attributes of a class, as `child` gives them."""
    if not isinstance(told, dict) or told.keys() != {"tasks", "options", "learned"}:
        return False
    names = [told["tasks"], told["options"]]
    return isinstance(told["learned"], bool) and all(
        isinstance(some, list) and all(isinstance(one, str) and one.isprintable() for one in some) for some in names
    )


def _seed() -> int:
    """The seed that the harness set for this call. The system's process draws the same numbers
    as it would draw here.
    """
    return torch.initial_seed() % 2**63


def _note_draws(told: Any) -> None:
    """Count the draws of the process as draws here. `bench.measure.calls` then repeats the call,
    one picture at a time.
    """
    if isinstance(told, dict) and told.get("drew"):
        torch.rand(1)


def _report(told: dict[str, Any], batch: int) -> dict[str, list]:
    report = told["report"]
    if not isinstance(report, dict):
        raise TypeError
    for key, values in report.items():
        if not isinstance(values, list) or any(isinstance(value, (list, dict, Tensor)) for value in values):
            raise RemoteFailure(f"report {key!r} must be a list with one number or text per picture")
        if len(values) != batch:
            raise RemoteFailure(f"report {key!r} has {len(values)} values for {batch} pictures")
    return report
