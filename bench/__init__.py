"""The harness: it owns the data, the channel, the budget, the audit, the metrics and the tables.

From Python:

    import bench
    run = bench.run(systems=["gensc", "linear"], snr="0,10,20", dataset="photos")   # as `python -m bench run`
    run.summary                                       # pandas: a row per operating point and metric
    bench.evaluate("gensc", images, snr_db=[0, 10])   # pandas: a row per picture and SNR
    bench.transmit("gensc", images, snr_db=10)        # the pictures as the receiver sees them
    bench.load_run("results/reference").samples       # pandas: a row per picture and operating point

Words, each with one meaning:

    figure      what a run is asked for: task, data set, systems, channel, SNRs, budget (a TOML file)
    point       one operating point of a figure: SNR, channel and budget
    cell        one system at one point on one block of pictures and one noise draw: the unit of caching and resuming
    task        what is delivered: "reconstruction" (pictures) or "segmentation" (class labels)
    work unit   what an engine gives to a worker: cells of one system on one block of pictures
    use         one complex channel use, which is two real numbers
    CBR         complex channel uses per source value: uses / (3 H W)
    size        of a network: `small` and `light` are trained here, `paper` is the publication's
    variant     which weights or which modulation and code rate made a row, a column of every table
    checkpoint  a file of weights
    link        what transmitter and receiver both know beforehand (`systems.Link`)
    outage      a picture that a receiver could not decode
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.api import evaluate, load_run, run, transmit

__all__ = ["evaluate", "load_run", "run", "transmit"]


def __getattr__(name: str) -> Any:
    """The Python interface is loaded when it is first used: the command line does without torch where it can."""
    if name in __all__:
        from bench import api

        return getattr(api, name)
    raise AttributeError(f"module 'bench' has no attribute {name!r}")
