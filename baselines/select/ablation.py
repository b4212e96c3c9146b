"""`linear-select` with one part removed. `python -m bench perf select` measures with it what each part gains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from baselines.linear_select import LinearSelect, LinkPlan
from baselines.select.allocation import STEPS, Allocation, deviation
from baselines.select.class_map import ContextTables
from baselines.select.codebook import DETAILS, Codebook


class SameEverywhere(LinearSelect):
    """Every block sends the same coefficients, those that are strongest on average. The class
    decides only their power.
    """

    def allocate(self, levels: np.ndarray, plan: LinkPlan) -> Allocation:
        """See `LinearSelect.allocate`. levels: int16 (m,). The places are those with the largest average variance."""
        given = super().allocate(levels, plan)
        blocks = plan.rows * plan.columns
        variances = np.exp2(np.asarray(levels, np.float64) / STEPS)
        means, details = variances[: 3 * blocks], variances[3 * blocks :].reshape(blocks, DETAILS)
        average = np.concatenate([means, np.broadcast_to(details.mean(axis=0), details.shape).ravel()])
        order = np.argsort(-average, kind="stable")[: 2 * plan.uses]
        s = deviation(levels[order])
        return replace(given, **_water_filled(order, s, plan))


class FixedPower(LinearSelect):
    """The power is that of `linear` at every SNR: amplitude proportional to variance^(-1/4)."""

    def allocate(self, levels: np.ndarray, plan: LinkPlan) -> Allocation:
        """See `LinearSelect.allocate`. levels: int16 (m,). Every symbol sends a coefficient, even a weak one."""
        given = super().allocate(levels, plan)
        order = np.argsort(-levels.astype(np.int16), kind="stable")[: 2 * plan.uses]
        s = deviation(levels[order])
        return replace(given, places=order, amplitudes=np.sqrt(plan.uses / (s.sum() * s)), deviations=s)


def _water_filled(order: np.ndarray, s: np.ndarray, plan: LinkPlan) -> dict[str, np.ndarray]:
    """Water-filled power over given places. Coefficients that are too weak are left out."""
    sent = np.ones(len(s), bool)
    while True:  # leave out those that are too weak, until none is
        water = plan.noise * s[sent].sum() / (plan.uses + plan.noise * sent.sum())
        left = sent & (s > water)
        if left.sum() == sent.sum():
            break
        sent = left
    return {
        "places": order[sent],
        "amplitudes": np.sqrt(plan.noise * (1 / water - 1 / s[sent]) / s[sent]),
        "deviations": s[sent],
    }


def without_context(codebook: Codebook) -> Codebook:
    """The codebook for a class map without the neighbours as context. The counts of the picture
    itself are still used.
    """
    share = codebook.tables.share
    beside = np.repeat(share[None], codebook.classes + 1, axis=0)
    return replace(codebook, tables=ContextTables(share, beside, beside))
