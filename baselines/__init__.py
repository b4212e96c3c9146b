"""The systems that GenSC is compared with: one file per system, the digital link in `baselines.digital` beside them.

Importing this package registers every system of the bench, GenSC too (`baselines.catalogue`); no system is imported.
"""

from baselines import catalogue  # noqa: F401
