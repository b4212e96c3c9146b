"""Training: one protocol for all learned systems. `python -m bench train` calls `run`.

run.py, trainer.py     the systems of a command one after another; one system from its first step to its weights
learner.py             one step in its parts; the parts are in batch.py, optimiser.py, fast_step.py and channel.py
protocol.py, schedule.py, precision.py     the protocol's keys; task, crop and rate of each step; number format
sources.py, picture.py, pack_format.py, make_pack.py, teacher.py, crops.py, draws.py     pictures, labels, crops
resume.py, state_file.py     stopping and going on; the file behind it
sidecar.py, weights_table.py     the facts of trained weights; trainings beside each other
report.py, validate.py     lines of progress and metrics.csv; scores
distributed.py         several processes that compute the same as one
"""
