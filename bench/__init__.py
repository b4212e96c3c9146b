"""The harness: it owns the data, the channel, the budget, the audit, the metrics and the tables.

From Python:

    import bench
    run = bench.run(systems=["gensc", "linear"], snr="0,10,20", dataset="photos")   # as `python -m bench run`
    run.summary                                       # pandas: one row per operating point and metric
    bench.evaluate("gensc", images, snr_db=[0, 10])   # pandas: one row per picture and SNR
    bench.transmit("gensc", images, snr_db=10)        # the pictures that the receiver delivers
    bench.load_run("results/reference").samples       # pandas: one row per picture and operating point

Words that have one meaning everywhere:

    system      a transmitter and its receiver, such as `gensc` or `jpeg-ldpc-16qam`
    task        what the receiver delivers: "reconstruction" (pictures) or "segmentation" (class labels)
    figure      task, data set, systems, channel, SNRs and budget that belong in one plot; a TOML file describes them
    run         one folder of results: the rows of one or more figures, their tables, and a manifest
    point       one operating point of a figure: SNR, channel and budget
    repetition  the same point again, with another draw of the noise
    block       up to eight pictures of a data set, in its order
    cell        one system at one point on one block with one noise draw: the unit of caching and resuming
    row         one picture in one cell: a line of samples.csv
    work unit   several cells of one system on one block, which an engine gives to a worker together
    worker      a process of a run that computes cells
    engine      the way in which workers are started: one process, several processes, or jobs of a cluster
    nursery     a clean process; systems of third parties run in processes that it forks, confined and without a memory
    use         one complex channel use, which is two real numbers
    budget      the complex channel uses that a system may spend on one picture
    CBR         complex channel uses per source value: uses / (3 H W)
    link        the facts that transmitter and receiver both know before anything is sent (`systems.Link`)
    outage      a picture that a receiver could not decode
    size        the size of a network: `small` and `light` are trained here, `paper` is the publication's
    checkpoint  a file of weights
    variant     the weights, or the modulation and code rate, behind a row: a column of every table
    identity    everything that decides the rows of a system: its options, weights and code
    salt        a secret number in the seeds of a run's noise; the manifest publishes it when the run has ended
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from systems.hidden_entry_points import hide_entry_points

if TYPE_CHECKING:
    from bench.api import evaluate, load_run, run, transmit

__all__ = ["evaluate", "load_run", "run", "transmit"]

# Before any library is imported. From here on, also in a notebook, no library finds other packages by entry points.
hide_entry_points()


def __getattr__(name: str) -> Any:
    """Load the Python interface when it is first used. The command line often works without it,
    and so without torch.
    """
    if name in __all__:
        from bench import api

        return getattr(api, name)
    raise AttributeError(f"module 'bench' has no attribute {name!r}")
