"""The systems that GenSC is compared with: one file per system, and the digital link in `baselines.digital`.

Importing this package registers every system of the bench, GenSC included (`baselines.catalogue`). It imports no
system.
"""

from baselines import catalogue  # noqa: F401
