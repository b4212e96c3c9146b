"""Systems with known faults and habits, for the tests of the runner. They come in through a real entry point."""

import os
import signal
import sys
import time
from pathlib import Path

import torch
from pooled_pixels import PooledPixels

from systems.errors import UserError
from systems.interface import Decoded

ENTRY_POINTS = {
    "t-plain": "Logged", "t-slow": "Slow", "t-faulty": "Faulty", "t-killed": "Killed", "t-snr": "SeesSnr",
    "t-peeks": "Peeks", "t-option": "WithOption", "t-loud": "Loud", "t-labels": "Labels", "t-draws": "Draws",
    "t-joined": "Joined", "t-remembers": "Remembers",
}  # fmt: skip


def fault(name):
    """True while the test's switch for a fault is on: a file that it makes."""
    folder = os.environ.get("BENCH_TEST_FAULTS")
    return folder is not None and (Path(folder) / name).exists()


class Logged(PooledPixels):
    """Prints a line for each encode and each decode: the run keeps it, so that a test can count what was computed."""

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
    """Fails at 4 dB while the switch "error" is on; with "user", as a user's error."""

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
    """Says that its encoder does not see the SNR, and uses it all the same."""

    def encode(self, images, link):
        sent = super().encode(images, link)
        sent.symbols = sent.symbols * (1 + 0 * float(link.snr_db))
        return sent


class Remembers(Logged):
    """Its receiver is the transmitter's own memory."""

    def encode(self, images, link):
        self.kept = images
        return super().encode(images, link)

    def decode(self, received, link):
        return Decoded(self.kept)


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
    """A decoder with randomness of its own."""

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
    """Segmentation by brightness: class 0 below the middle, class 15 (person) above."""

    tasks = ("segmentation",)

    def decode(self, received, link):
        grey = super().decode(received, link).output.mean(dim=1)
        logits = torch.zeros(len(grey), 21, link.height, link.width)
        logits[:, 0], logits[:, 15] = 0.5 - grey, grey - 0.5
        logits[:, 1:15] = logits[:, 16:] = -1.0
        return Decoded(logits)
