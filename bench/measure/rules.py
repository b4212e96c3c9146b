"""The rules of the comparison in one line each, with the tests behind them.

The table "What is held equal" of the README and the list of the HTML report are made from `RULES`. `README.md` beside
this file goes into detail. `tests/bench/measure/test_rules.py` checks that they agree and that every test exists.
"""

from __future__ import annotations

from typing import NamedTuple

from bench.util.markdown import markdown_table


class Rule(NamedTuple):
    """One rule.

    name: its heading.
    text: the rule in one line.
    tests: "file::test", below tests/bench. Each fails if the rule is not enforced.
    """

    name: str
    text: str
    tests: tuple[str, ...]


RULES = (
    Rule(
        "Budget",
        "The complex channel uses per picture are fixed beforehand. Headers, padding, CRCs and side information count.",
        ("measure/test_audit.py::test_one_use_over_the_budget_is_a_breach",
         "measure/test_audit.py::test_side_information_counts"),
    ),
    Rule(
        "Matching",
        "Fig. 7 compares at equal bits (20 Kbits), fig7-uses at equal uses; each table says which.",
        ("spec/test_figure.py::test_fig7_gives_equal_bits_and_fig7_uses_equal_uses",
         "analysis/test_compare.py::test_equal_uses_and_equal_bits_are_named"),
    ),
    Rule(
        "Power",
        "The mean of |x|² over the symbols of each picture is 1 within 1e-3.",
        ("measure/test_audit.py::test_power_is_checked_for_each_picture",
         "measure/test_audit.py::test_power_must_not_be_unit_over_the_batch_only"),
    ),
    Rule(
        "Noise",
        "SNR is Es/N0 in dB per complex use; the noise is CN(0, 10^(-SNR/10)), the same draws for all systems.",
        ("measure/test_channel.py::test_snr_is_what_was_asked",
         "measure/test_channel.py::test_two_systems_meet_the_same_noise"),
    ),
    Rule(
        "Secrecy",
        "The salt of the noise is drawn for a new run and secret until its end; the manifest says where it was known.",
        ("measure/test_point.py::test_noise_has_a_salt",
         "sweep/test_runs.py::test_the_salt_is_secret_until_the_end_and_replays_the_run",
         "sweep/test_runs.py::test_no_file_of_a_run_tells_a_seed"),
    ),
    Rule(
        "Separation",
        "Symbols, channel gain, SNR and delivered side information reach the receiver, and nothing else.",
        ("measure/test_apart.py::test_nothing_passes_from_encoder_to_decoder",
         "measure/test_point.py::test_a_view_s_storage_does_not_pass",
         "spec/test_frozen_files.py::test_every_change_of_a_package_is_seen"),
    ),
    Rule(
        "Rows",
        "A picture's rows depend on this picture alone: one of each batch is sent again to check it.",
        ("measure/test_point.py::test_rows_that_lean_on_each_other_are_found",
         "measure/test_point.py::test_a_system_that_fails_where_it_is_checked_has_not_passed"),
    ),
    Rule(
        "Side information",
        "It is coded, sent over the same channel and charged; a lost word makes the picture an outage.",
        ("measure/test_control_channel.py::test_a_short_word_keeps_the_promise_of_its_rule",
         "measure/test_point.py::test_a_lost_control_word_is_an_outage_also_in_a_fade"),
    ),
    Rule(
        "Outages",
        "The harness scores a picture that was not decoded as mid-grey (a segmentation: as background), and counts it.",
        ("measure/test_point.py::test_outages_are_painted_by_the_harness",
         "measure/test_point.py::test_outages_of_labels_are_background",
         "analysis/test_compare.py::test_nobody_gains_by_losing_the_hard_pictures"),
    ),
    Rule(
        "Intervals",
        "95 %, by bootstrap over pictures. Systems are compared on the same pictures, pairwise.",
        ("analysis/test_intervals.py::test_bootstrap_covers_the_truth_95_times_in_100",
         "analysis/test_compare.py::test_pairing_decides_what_unpaired_bands_cannot"),
    ),
)  # fmt: skip


def markdown() -> str:
    """The table of the README: a line per rule, its tests as links from the root of the repository."""
    rows = []
    for rule in RULES:
        links = (f"[{name}](tests/bench/{file})" for file, _, name in (test.partition("::") for test in rule.tests))
        rows.append((rule.name, rule.text.replace("|x|²", "abs(x)²"), ", ".join(links)))
    return markdown_table(("Rule", "In one line", "Tests"), "lll", rows)
