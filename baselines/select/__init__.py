"""The parts of `linear-select`, a linear code that spends channel uses where the picture needs them.

    lapped.py      pictures <-> coefficients of blocks, an orthogonal lapped transform
    codebook.py    the classes of blocks: their variances, transforms and statistics, which both ends hold
    allocation.py  which coefficients get the channel uses, and with how much power
    class_map.py   the class of each block as bits: an arithmetic coder with the neighbours as context
    fit.py         computes the codebook from training pictures
    learned.py     a network at each end beside the closed form: the base of `gensc-select` and `adjscc-select`
    batch.py       the front end for a whole batch on one device, for training
    ablation.py    the system with one part removed, to measure what the part gains

The system itself is `baselines.linear_select`.
"""
