"""`linear-select` with a part taken out, for the table of what each part brings (`python -m bench perf select`)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from baselines.linear_select import LinearSelect, Plan
from baselines.select.allocation import STEPS, Allocation, deviation
from baselines.select.class_map import ContextTables
from baselines.select.codebook import DETAILS, Codebook


class SameEverywhere(LinearSelect):
    """Every block sends the same coefficients, those that are strongest on average; their power follows its class."""

    def allocate(self, levels: np.ndarray, plan: Plan) -> Allocation:
        """As in `LinearSelect`, with the places of the averages."""
        given = super().allocate(levels, plan)
        blocks = plan.rows * plan.columns
        variances = np.exp2(np.asarray(levels, np.float64) / STEPS)
        means, details = variances[: 3 * blocks], variances[3 * blocks :].reshape(blocks, DETAILS)
        average = np.concatenate([means, np.broadcast_to(details.mean(axis=0), details.shape).ravel()])
        order = np.argsort(-average, kind="stable")[: 2 * plan.uses]
        s = deviation(levels[order])
        return replace(given, **_water_filled(order, s, plan))


class FixedPower(LinearSelect):
    """Power as in `linear`: amplitude proportional to variance^(-1/4), whatever the SNR."""

    def allocate(self, levels: np.ndarray, plan: Plan) -> Allocation:
        """As in `LinearSelect`, with every place sent that a use is left for."""
        given = super().allocate(levels, plan)
        order = np.argsort(-levels.astype(np.int16), kind="stable")[: 2 * plan.uses]
        s = deviation(levels[order])
        return replace(given, places=order, amplitudes=np.sqrt(plan.uses / (s.sum() * s)), deviations=s)


def _water_filled(order: np.ndarray, s: np.ndarray, plan: Plan) -> dict[str, np.ndarray]:
    """Power over given places."""
    sent = np.ones(len(s), bool)
    while True:  # those too weak to be sent drop out; some rounds
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
    """The class map coded without its neighbours; the picture's own counts still speak."""
    share = codebook.tables.share
    beside = np.repeat(share[None], codebook.classes + 1, axis=0)
    return replace(codebook, tables=ContextTables(share, beside, beside))
