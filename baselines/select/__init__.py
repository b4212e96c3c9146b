"""`linear-select`, part by part: a linear code that spends channel uses where the picture needs them.

    lapped.py      pictures <-> coefficients of blocks, an orthogonal lapped transform
    codebook.py    the classes of blocks: their variances, transforms and statistics, which both ends hold
    allocation.py  which coefficients get the channel uses, and how much power each
    class_map.py   the class of each block as bits: an arithmetic coder with the neighbours as context
    fit.py         the codebook from training pictures

The system itself is `baselines.linear_select`.
"""
