"""Tests of third parties' systems that misbehave at one hook each: the rows are those of the honest system, or there is
one line that says what is wrong.

The program of a system's process runs in a thread here, so a case takes milliseconds; what a system does to its process
runs in a confined one.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
import torch
from near import NearHome

from bench.measure.apart import Home, RemoteFailure, RemoteSystem, Sight, inspect, wire
from bench.measure.audit import REPORT_COLUMNS
from bench.measure.calls import LocalEnd
from bench.measure.point import Batch, Conditions, Measurement, Point
from systems.errors import AuditError, UserError

sys.path[:0] = [str(Path(__file__).parents[1] / "plugin"), str(Path(__file__).parents[2] / "example_plugin")]
from hostile_systems import ACTS, DECLARED, HOOKS, RAISES, RETURNS, TENSORS  # noqa: E402

TARGET = "hostile_systems:Misbehaves"
#: Errors that a user sees as one line. Every other error would end the command with a traceback.
TOLD = (UserError, AuditError, RemoteFailure, wire.WireError)
#: Deeds that change no row: a tensor's numbers count, not its class, gradient or memory; `to` may return nothing; in
#: `describe`, a number that JSON cannot hold becomes a text.
HARMLESS = {
    *((hook, deed) for hook in ("encode", "decode") for deed in ("a-gradient", "tagged", "strided")),
    ("to", "none"),
    ("describe", "facts"),
}
ENDS = ("encode", "decode")
CASES = [
    *(("constructor", deed) for deed in RAISES),
    *((hook, deed) for hook in HOOKS if hook != "constructor" for deed in (*RETURNS, "raises-SystemExit")),
    *((hook, deed) for hook in ENDS for deed in (*sorted(RAISES.keys() - {"raises-SystemExit"}), *TENSORS)),
]


def delivered(home: Home, what: str) -> torch.Tensor:
    """The pictures that the system delivers, uint8 (B, 3, H, W). Raises the errors that the harness would report."""
    options = {"code_rate": what}
    facts = inspect(home, "x", TARGET, options)
    # As the plan and the manifest hold them: JSON, in which a number that is none has no place.
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    system = RemoteSystem(home, "x", TARGET, options, facts, Sight.of(TARGET, options), sorted(REPORT_COLUMNS))
    system.deadline = time.monotonic() + 60
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    batch = Batch(("a", "b"), images.float() / 255, images, None)
    conditions = Conditions("reconstruction", "folder:x", "awgn", 1 / 6, None, "", 0, "salt")
    measurement = Measurement(LocalEnd(system), conditions)
    try:
        sent = measurement.sender(batch)(Point(60.0, 0))
        return next(measurement.deliver([Point(60.0, 0)], batch, [sent])).output
    finally:
        system.rest()


@pytest.fixture(scope="module", autouse=True)
def one_sight():
    """The files that a process may open are found once, because this takes longer than a case."""
    found = Sight.of(TARGET, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sight, "of", lambda *given: found)
        yield


@pytest.fixture(scope="module")
def honest(one_sight):
    return delivered(NearHome(), "")


@pytest.mark.parametrize(("hook", "deed"), CASES, ids=lambda part: part)
def test_a_system_that_misbehaves_at_one_hook_is_one_line_or_harmless(honest, hook, deed):
    if (hook, deed) in HARMLESS:
        assert torch.equal(delivered(NearHome(), f"{hook} {deed}"), honest)
        return
    try:
        found = delivered(NearHome(), f"{hook} {deed}")
    except TOLD as error:
        text = str(error)
        assert text and "\n" not in text and "Traceback" not in text and "AssertionError" not in text
    else:  # some declarations have a meaning whatever they are: a label is a text, a flag is true or false
        assert hook in DECLARED and deed in RETURNS and torch.equal(found, honest)


@pytest.fixture(scope="module")
def home():
    return Home.shared()


@pytest.mark.parametrize(
    ("hook", "act"), [*(("decode", act) for act in ACTS), ("constructor", "forks"), ("constructor", "closes-output")]
)
def test_what_a_system_does_to_its_process_stays_there(home, honest, hook, act):
    start = time.monotonic()
    try:
        assert torch.equal(delivered(home, f"{hook} {act}"), honest)
    except TOLD as error:
        told = act in ("recursion", "patches-torch", "patches-json") or (hook, act) == ("constructor", "forks")
        assert told and "\n" not in str(error) != ""
    assert time.monotonic() - start < 50  # nothing waits for the limit
