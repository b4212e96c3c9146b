"""Encoder and decoder in processes that share nothing. Systems of third parties run nowhere else.

    worker (harness)                        nursery (no pictures, no salt, no code of a third party)
      RemoteSystem -- one socketpair per call --> fork, confine, build the system, seal, encode or decode, end

`nursery` is a fresh Python process with torch imported, and with those systems of the bench that it has been asked for
(`ahead`). For each encoding and each decoding it forks a process. This process is first confined (`confine`: namespaces
and Landlock, where Linux permits them), and only then imports a third party's code, which therefore cannot undo the
confinement. When the system is built, another process takes all files away from it (`seal`), and only then it is given
a picture or symbols. The process ends after its answer, so nothing is remembered between two decodings. Requests and
answers are bytes (`wire`: JSON and raw buffers, never pickle).

To the rest of the harness, `RemoteSystem` is a system like any other. `bench.sweep` makes one for each system of a
third party, and for a sample of the bench's own cells. `bench/measure/README.md` lists the faults that this cannot
detect.
"""

from bench.measure.apart.nursery_client import Home, RemoteFailure, TooLate
from bench.measure.apart.readable_files import Sight
from bench.measure.apart.remote import RemoteSystem, inspect, inspect_with

__all__ = ["Home", "RemoteFailure", "RemoteSystem", "Sight", "TooLate", "inspect", "inspect_with"]
