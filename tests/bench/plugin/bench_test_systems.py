"""Systems with known faults and properties, for the tests of the runner. The runner finds them through a real entry
point.
"""

import fcntl
import os
import signal
import sys
import time
from pathlib import Path

import torch
from pooled_pixels import PooledPixels

import baselines
from systems.errors import UserError
from systems.interface import Decoded

ENTRY_POINTS = {
    "t-plain": "Logged", "t-slow": "Slow", "t-faulty": "Faulty", "t-killed": "Killed", "t-snr": "SeesSnr",
    "t-peeks": "Peeks", "t-option": "WithOption", "t-loud": "Loud", "t-labels": "Labels", "t-draws": "Draws",
    "t-joined": "Joined", "t-remembers": "Remembers",
    "t-whole": "Whole", "t-clock-encoder": "ClockEncoder", "t-clock-decoder": "ClockDecoder",
    "t-clock-picky": "ClockPicky", "t-clock-fails": "ClockFails", "t-mixes-high": "MixesHigh",
    "t-holds": "Holds", "t-held": "Held",
}  # fmt: skip


def fault(name):
    """Whether the test has switched this fault on, by a file that it writes."""
    folder = os.environ.get("BENCH_TEST_FAULTS")
    return folder is not None and (Path(folder) / name).exists()


class Logged(PooledPixels):
    """Prints a line for each encode and each decode. The run keeps these lines, so a test can
    count what was computed.
    """

    opens_files = True  # whether a fault is switched on, a file says

    def log(self, what, link, count):
        print(f"{what} {self.name} {float(link.snr_db):g} {count} {link.height}x{link.width}", file=sys.stderr)

    def encode(self, images, link):
        self.log("encode", link, len(images))
        return super().encode(images, link)

    def decode(self, received, link):
        self.log("decode", link, len(received.symbols))
        return super().decode(received, link)


class Slow(Logged):
    def decode(self, received, link):
        time.sleep(float(os.environ.get("BENCH_TEST_DELAY", "0.15")))
        return super().decode(received, link)


class Faulty(Logged):
    """Fails at 4 dB while the switch "error" is on; with the switch "user" it raises an error of the user."""

    def decode(self, received, link):
        if link.snr_db == 4 and fault("error"):
            raise RuntimeError("the decoder broke\nwith a second line")
        if link.snr_db == 4 and fault("user"):
            raise UserError("t-faulty: an input is wrong; mend it")
        return super().decode(received, link)


class Killed(Logged):
    """Its process is killed at 4 dB while the switch "kill" is on."""

    def decode(self, received, link):
        if link.snr_db == 4 and fault("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().decode(received, link)


class SeesSnr(Logged):
    """Reports the SNR that each end was told."""

    encoder_sees_snr = True

    def encode(self, images, link):
        sent = super().encode(images, link)
        sent.report["mcs"] = [f"enc{link.snr_db:g}-{link.channel}"] * len(images)
        return sent

    def decode(self, received, link):
        decoded = super().decode(received, link)
        decoded.report["stop_reason"] = [f"dec{link.snr_db:g}-{n0:.6g}" for n0 in received.noise_var.tolist()]
        return decoded


class Peeks(Logged):
    """Declares that its encoder does not see the SNR, and uses it nevertheless."""

    def encode(self, images, link):
        sent = super().encode(images, link)
        sent.symbols = sent.symbols * (1 + 0 * float(link.snr_db))
        return sent


class Remembers(Logged):
    """Its receiver reads the memory of its transmitter."""

    def encode(self, images, link):
        self.kept = images
        return super().encode(images, link)

    def decode(self, received, link):
        return Decoded(self.kept)


class Whole(Logged):
    """Row i carries picture i - 1 of its batch; what its checks would ask, it does not answer."""

    def encode(self, images, link):
        if len(images) in (1, 2, 4):
            raise RuntimeError("not today")
        return super().encode(images.roll(1, 0), link)


class ClockEncoder(SeesSnr):
    """Row i carries picture i - 1 of its batch, as soon as the checks are over."""

    def encode(self, images, link):
        return super().encode(images.roll(1, 0) if fault("cells") else images, link)


class ClockDecoder(Logged):
    """Mixes the pictures of a batch, as soon as the checks are over."""

    def decode(self, received, link):
        decoded = super().decode(received, link)
        if fault("cells"):
            decoded.output = (decoded.output + decoded.output.roll(1, 0)) / 2
        return decoded


class ClockPicky(ClockDecoder):
    """Mixes the pictures too, and fails in the checks at all SNRs but one, at which it is honest."""

    def decode(self, received, link):
        if link.snr_db == 8:
            return Logged.decode(self, received, link)
        if not fault("cells") and len(received.symbols) > 1:
            raise ValueError("not today")
        return super().decode(received, link)


class ClockFails(ClockDecoder):
    """Mixes the pictures too, and fails at two SNRs: what was checked there would be compared with nothing."""

    def decode(self, received, link):
        if fault("cells") and link.snr_db in (8, 12):
            raise ValueError("not today")
        return super().decode(received, link)


class MixesHigh(Logged):
    """Mixes the pictures of a batch from 8 dB on, always."""

    def decode(self, received, link):
        decoded = super().decode(received, link)
        if link.snr_db >= 8:
            decoded.output = (decoded.output + decoded.output.roll(1, 0)) / 2
        return decoded


class Holds(Logged):
    """Locks an installed file before it sends, and then sends nothing: its process waits for the next SNR."""

    encoder_sees_snr = True

    def prepare(self, images, link):
        self.file = os.open(baselines.__file__, os.O_RDONLY)
        fcntl.flock(self.file, fcntl.LOCK_EX)
        return lambda at: 1 / 0


class Held(Logged):
    """Reports whether that file is locked."""

    def decode(self, received, link):
        decoded = super().decode(received, link)
        try:
            fcntl.flock(os.open(baselines.__file__, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = "free"
        except BlockingIOError:
            found = "locked"
        decoded.report["stop_reason"] = [found] * len(received.symbols)
        return decoded


class WithOption(Logged):
    options = ("code_rate",)

    def __init__(self, name="t-option", code_rate="1/2"):
        super().__init__(name)
        self.variant = f"r{code_rate}"


class Loud(Logged):
    """Breaks the power rule."""

    def encode(self, images, link):
        sent = super().encode(images, link)
        sent.symbols = sent.symbols * 1.1
        return sent


class Draws(Logged):
    """Its decoder draws random numbers of its own."""

    def decode(self, received, link):
        output = super().decode(received, link).output
        return Decoded((output + 0.05 * torch.randn(output.shape)).clamp(0, 1))


class Joined(Logged):
    """Takes several operating points in one batch; fails on a batch that holds 4 dB while the switch "error" is on."""

    joins_snr = True

    def log(self, what, link, count):
        points = torch.as_tensor(link.snr_db).reshape(-1).unique().tolist()
        super().log(what, link.at(snr_db=points[0] if len(points) == 1 else -len(points)), count)

    def decode(self, received, link):
        if 4 in torch.as_tensor(link.snr_db) and fault("error"):
            raise RuntimeError("the decoder broke")
        return super().decode(received, link)


class Labels(Logged):
    """Segments by brightness: class 0 for the darker half, class 15 (person) for the brighter half of the range."""

    tasks = ("segmentation",)

    def decode(self, received, link):
        grey = super().decode(received, link).output.mean(dim=1)
        logits = torch.zeros(len(grey), 21, link.height, link.width)
        logits[:, 0], logits[:, 15] = 0.5 - grey, grey - 0.5
        logits[:, 1:15] = logits[:, 16:] = -1.0
        return Decoded(logits)
