"""The harness: it owns the data, the channel, the budget, the audit, the metrics and the tables.

From Python:

    import bench
    run = bench.run(systems=["gensc", "linear"], snr="0,10,20", dataset="photos")   # as `python -m bench run`
    run.summary                                       # pandas: one row per operating point and metric
    bench.evaluate("gensc", images, snr_db=[0, 10])   # pandas: one row per picture and SNR
    bench.transmit("gensc", images, snr_db=10)        # the pictures that the receiver delivers
    bench.load_run("results/reference").samples       # pandas: one row per picture and operating point

Words that have one meaning everywhere:

    figure      what one run simulates and plots together: task, data set, systems, channel, SNRs, budget (a TOML file)
    point       one operating point of a figure: SNR, channel and budget
    cell        one system at one point on one block of pictures with one noise draw: the unit of caching and resuming
    task        what the receiver delivers: "reconstruction" (pictures) or "segmentation" (class labels)
    work unit   what an engine gives to a worker: cells of one system on one block of pictures
    use         one complex channel use, which is two real numbers
    CBR         complex channel uses per source value: uses / (3 H W)
    size        of a network: `small` and `light` are trained here, `paper` is the publication's
    variant     the weights, or the modulation and code rate, that made a row: a column of every table
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
    """Load the Python interface when it is first used. The command line often works without it,
    and so without torch.
    """
    if name in __all__:
        from bench import api

        return getattr(api, name)
    raise AttributeError(f"module 'bench' has no attribute {name!r}")
