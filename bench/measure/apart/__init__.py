"""Encoder and decoder in processes that share nothing. A third party's system runs nowhere else.

    worker (harness)                        nursery (no pictures, no salt, no code of a third party)
      RemoteSystem --- one socketpair a call ---> fork -> confine -> build the system -> encode or decode -> end

`nursery` is a fresh Python with torch imported. For each encoding and each decoding it forks a process that is first
confined (`confine`: namespaces and Landlock, where Linux permits them) and only then imports the system's code, so no
code of a third party can undo it. The process ends with its answer: nothing is remembered between two decodings.
Requests and answers are bytes (`wire`: JSON and raw buffers, never pickle).

`RemoteSystem` looks like the system to the rest of the harness. `bench.sweep.worker` makes one for each system of a
third party, and for a sample of the bench's own cells. What this cannot see is said in `bench/measure/README.md`.
"""

from bench.measure.apart.remote import Home, RemoteFailure, RemoteSystem, inspect

__all__ = ["Home", "RemoteFailure", "RemoteSystem", "inspect"]
