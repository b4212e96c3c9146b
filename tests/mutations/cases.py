"""The mutations: each takes one rule of the comparison out, by a change of a few words in one file.

`test_mutations.py` demands that the named tests notice each of them. A rule that is new, or that another line now
enforces, gets its record here.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutation(NamedTuple):
    """One rule, taken out.

    rule: what no longer holds, in a few words.
    file: from the root of the repository.
    old: text that the file contains exactly once. new: what takes its place.
    tests: node ids from the root; one of them at least must fail.
    """

    rule: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def _at(file: str, *names: str) -> tuple[str, ...]:
    return tuple(f"tests/bench/{file}.py::{name}" for name in names)


POINT, AUDIT, APART = "bench/measure/point.py", "bench/measure/audit.py", "bench/measure/apart/"
CALLS, ROWS, WORKER = "bench/measure/calls.py", "bench/measure/row_independence.py", "bench/sweep/worker/"

CASES = (
    # ------------------------------------------------------------ only bytes pass
    Mutation(
        "only bytes: a tensor passes itself", CALLS,
        "    return tensor.detach().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)",
        "    return tensor",
        _at("measure/test_point", "test_symbols_are_audited_as_they_are_sent"),
    ),
    Mutation(
        "only bytes: the order of a tensor in memory passes", CALLS,
        ".clone(memory_format=torch.contiguous_format)", ".clone()",
        _at("measure/test_point", "test_the_order_of_a_tensor_in_memory_does_not_pass"),
    ),
    Mutation(
        "only bytes: subclasses of tensors pass", CALLS,
        "if type(tensor) is not Tensor or tensor", "if tensor",
        _at("measure/test_point", "test_tensors_of_other_kinds_are_refused"),
    ),
    Mutation(
        "only bytes: the audit's copy is not what is sent", POINT,
        "transmission = Transmission(symbols, side_info, {}, made_for)",
        "transmission = Transmission(given.symbols, given.side_info, {}, made_for)",
        _at("measure/test_point", "test_symbols_are_audited_as_they_are_sent"),
    ),
    Mutation(
        "only bytes: a receiver gets the symbols themselves, not a copy", CALLS,
        "partial(self.system.decode, copy_of(received), link.at())",
        "partial(self.system.decode, received, link.at())",
        _at("measure/test_point", "test_a_receiver_that_changes_what_it_received_harms_nobody"),
    ),
    Mutation(
        "only bytes: an encoder gets the pictures that are scored", CALLS,
        "partial(self.system.prepare, images.clone(), link.at())", "partial(self.system.prepare, images, link.at())",
        _at("measure/test_point", "test_a_transmitter_that_changes_its_pictures_harms_nobody"),
    ),
    Mutation(
        "budget: all calls share one object, which a system may change", POINT,
        "        return Link(self.task, height,",
        "        budget = self.__dict__.setdefault('kept', budget)\n        return Link(self.task, height,",
        _at("measure/test_point", "test_a_changed_link_changes_nothing"),
    ),
    # ------------------------------------------------------------ budget, power, bits
    Mutation(
        "budget: uses over it pass", AUDIT,
        "    if used > allowed:\n", "    if used > 2 * allowed:\n",
        _at("measure/test_audit", "test_one_use_over_the_budget_is_a_breach"),
    ),
    Mutation(
        "budget: side information is free", AUDIT,
        "    side_uses = link.budget.side_info_uses(side_bits, made_for)\n", "    side_uses = 0\n",
        _at("measure/test_audit", "test_side_information_counts"),
    ),
    Mutation(
        "power: over the batch", AUDIT,
        "((power - 1).abs() > POWER_TOLERANCE)",
        "((power.mean().expand(power.shape) - 1).abs() > POWER_TOLERANCE)",
        _at("measure/test_audit", "test_power_must_not_be_unit_over_the_batch_only"),
    ),
    Mutation(
        "power: ten times the tolerance", AUDIT,
        "POWER_TOLERANCE = 1e-3", "POWER_TOLERANCE = 1e-2",
        _at("measure/test_audit", "test_power_is_checked_for_each_picture"),
    ),
    Mutation(
        "bits: bits per use need not be whole", CALLS,
        "        if bits is not None and (isinstance(bits, bool)", "        if False and (isinstance(bits, bool)",
        _at("measure/test_point", "test_bits_per_use_are_whole"),
    ),
    Mutation(
        "bits: chains of near points are one point", AUDIT,
        "        left = left[(left - left[0]).square().sum(dim=1) > POINT_RADIUS**2]\n",
        "        left = left[left[:, 0].argsort()]\n"
        "        return 1 + int(((left[1:] - left[:-1]).norm(dim=1) > POINT_RADIUS).sum())\n",
        _at("measure/test_audit", "test_points_are_told_apart_by_their_size_not_by_chaining"),
    ),
    Mutation(
        "bits: an analog signal poses as QPSK", AUDIT,
        "            if points > limit:\n", "            if False:\n",
        _at("measure/test_audit", "test_an_analog_system_cannot_pose_as_a_digital_one"),
    ),
    Mutation(
        "bits: not counted from the points", AUDIT,
        "few = 0 < points <= limit", "few = False",
        _at("measure/test_audit", "test_bits_are_counted_from_the_points_used"),
    ),
    Mutation(
        "uses: they follow the picture", AUDIT,
        "        if before != uses:\n", "        if False:\n",
        _at("measure/test_point", "test_the_number_of_uses_tells_nothing_of_the_picture"),
    ),
    Mutation(
        "uses: each worker has a number of its own", "bench/sweep/uses_ledger.py",
        "        if before != uses:\n", "        if False:\n",
        _at("sweep/test_uses_ledger", "test_two_workers_hold_a_system_to_one_number_of_uses"),
    ),
    # ------------------------------------------------------------ rows
    Mutation(
        "rows: what encoders make is not compared", ROWS,
        "            _compare(name, whole, row, other, place, rows)\n", "            pass\n",
        _at("measure/test_point", "test_rows_that_lean_on_each_other_are_found"),
    ),
    Mutation(
        "rows: what decoders deliver is not compared", ROWS,
        "            if _away(measurement, first[row], output[place]):\n", "            if False:\n",
        _at("measure/test_point", "test_rows_that_lean_on_each_other_are_found"),
    ),
    Mutation(
        "rows: no picture is sent again, alone", ROWS,
        "    if count == 1:\n        return", "    if count:\n        return",
        _at("measure/test_point", "test_a_system_that_knows_the_test_is_found_in_a_run_s_own_batches"),
    ),
    Mutation(
        "rows: an error in a check passes as an error of the system", ROWS,
        "        lines = str(error)", "        raise\n        lines = str(error)",
        _at("measure/test_point", "test_a_system_that_fails_where_it_is_checked_has_not_passed"),
    ),
    Mutation(
        "rows: a run does not check them", WORKER + "checks.py",
        "            self._hold_rows(system, unit, conditions, batches, senders)\n", "            pass\n",
        _at("sweep/test_sweep", "test_a_system_that_fails_where_it_is_checked_computes_nothing"),
    ),
    # ------------------------------------------------------------ noise and seeds
    Mutation(
        "noise: seeds do not contain the salt", "bench/measure/seeds.py",
        "    parts += [salt] if salt else []\n", "",
        _at("measure/test_point", "test_noise_has_a_salt"),
    ),
    Mutation(
        "noise: a run does not use its salt", WORKER + "work.py",
        "unit.requirement, self.seed, salt, unit.uses)", "unit.requirement, self.seed, '', unit.uses)",
        _at("sweep/test_runs", "test_the_salt_is_secret_until_the_end_and_replays_the_run"),
    ),
    Mutation(
        "noise: the salt is published when a run begins", "bench/sweep/make_manifest.py",
        '        "salt": None,', '        "salt": store.root.joinpath(".salt").read_text().strip(),',
        _at("sweep/test_runs", "test_the_salt_is_secret_until_the_end_and_replays_the_run"),
    ),
    Mutation(
        "noise: it follows the system's uses", "bench/measure/channel.py",
        "        noise[row] = amplitude[row] * channel.noise(seed, uses)\n",
        "        noise[row] = amplitude[row] * channel.noise(seed + uses, uses)\n",
        _at("measure/test_channel", "test_a_system_with_fewer_uses_meets_a_prefix_of_the_same_channel"),
    ),
    Mutation(
        "noise: each real part has the variance of the whole", "bench/measure/channel.py",
        "view(np.complex128) * np.sqrt(0.5)", "view(np.complex128)",
        _at("measure/test_channel", "test_snr_is_what_was_asked"),
    ),
    Mutation(
        "seeds: a receiver gets the seeds of the channel", ROWS,
        '    draws = conditions.seeds(batch.ids, point, "decoder")\n',
        '    draws = conditions.seeds(batch.ids, point, "channel")\n',
        _at("measure/test_point", "test_no_seed_of_the_channel_reaches_a_system"),
    ),
    Mutation(
        "seeds: an encoder that is blind is told the SNR", POINT,
        "        once = at(math.nan, _ANY_POINT)\n", "        once = at(10.0, _ANY_POINT)\n",
        _at("measure/test_point", "test_an_encoder_that_is_blind_is_told_no_snr"),
    ),
    Mutation(
        "streams: what is drawn depends on the batch", CALLS,
        "            if not drew:\n                return Answer(decoded, seconds)",
        "            return Answer(decoded, seconds)",
        _at("measure/test_point", "test_what_a_receiver_draws_does_not_depend_on_its_batch"),
    ),
    # ------------------------------------------------------------ outages, side information, reports
    Mutation(
        "outages: scored as the system painted them", POINT,
        '            if status[place] == "ok":\n', "            if True:\n",
        _at("measure/test_point", "test_outages_are_painted_by_the_harness", "test_outages_of_labels_are_background"),
    ),
    Mutation(
        "outages: the verdict counts only pictures that both delivered", "bench/analysis/compare_numbers.py",
        "self._verdict(gap, none_a, none_b)",
        "self._verdict(of_both[2], none_a, none_b)",
        _at("analysis/test_compare", "test_nobody_gains_by_losing_the_hard_pictures"),
    ),
    Mutation(
        "outages: a comparison does not say which pictures decide", "bench/analysis/compare_text.py",
        "the verdict counts all pictures; lost ones count as the harness scored them", "of the run",
        _at("analysis/test_compare", "test_both_reductions_are_given_and_the_verdict_says_which_decides",
            "test_report_says_everything"),
    ),
    Mutation(
        "side information: a lost word arrives", "bench/measure/control_channel.py",
        "arrived = posterior >= SURE", "arrived = posterior >= 0",
        _at("measure/test_point", "test_a_lost_control_word_is_an_outage_also_in_a_fade"),
    ),
    Mutation(
        "side information: words do not meet the noise", "bench/measure/control_channel.py",
        "    decoded, arrived = decode(received.symbols[:, uses:].cpu(),", "    decoded, arrived = decode(coded.cpu(),",
        _at("measure/test_control_channel", "test_measured_errors_agree_with_the_union_bound"),
    ),
    Mutation(
        "side information: words of half the length", "systems/side_info.py",
        "    return max(high, least)\n", "    return max(high // 2, least)\n",
        _at("measure/test_control_channel", "test_a_short_word_keeps_the_promise_of_its_rule"),
    ),
    Mutation(
        "reports: any status passes", AUDIT,
        "        if status not in STATUS:\n", "        if False:\n",
        _at("measure/test_point", "test_a_report_that_no_table_holds_is_refused"),
    ),
    # ------------------------------------------------------------ statistics
    Mutation(
        "matching: unequal uses count as equal", "bench/analysis/compare_text.py",
        "_SAME = 0.02", "_SAME = 2.0",
        _at("analysis/test_compare", "test_equal_uses_and_equal_bits_are_named"),
    ),
    Mutation(
        "matching: a budget in bits gives all the same uses", "systems/interface.py",
        "return self.bits // (bits_per_use or self.analog_bits_per_use)",
        "return self.bits // self.analog_bits_per_use",
        _at("spec/test_figure", "test_fig7_gives_equal_bits_and_fig7_uses_equal_uses"),
    ),
    Mutation(
        "intervals: plain percentiles, too narrow for few pictures", "bench/analysis/intervals.py",
        "    tail = ndtr(math.sqrt(n / (n - 1)) * quantile)\n", "    tail = (1 - level) / 2\n",
        _at("analysis/test_intervals", "test_bootstrap_covers_the_truth_95_times_in_100"),
    ),
    Mutation(
        "intervals: a bootstrap of two pictures", "bench/analysis/intervals.py",
        "    if few(n, level):\n", "    if False:\n",
        _at("analysis/test_intervals", "test_few_pictures_have_students_interval"),
    ),
    Mutation(
        "intervals: differences of unlike pictures", "bench/analysis/compare_numbers.py",
        "np.round(part[:, 0] - part[:, 1], DECIMALS)", "np.round(part[:, 0] - part[::-1, 1], DECIMALS)",
        _at("analysis/test_compare", "test_pairing_decides_what_unpaired_bands_cannot"),
    ),
    Mutation(
        "undertrained: by the mean instead of the interval", "bench/analysis/undertrained.py",
        "bootstrap_mean(gap.to_numpy()).high < 0", "gap.mean() < 0",
        _at("analysis/test_claims", "test_the_floor_is_judged_by_the_paired_interval_and_never_on_a_trial"),
    ),
    Mutation(
        "undertrained: on a trial with few pictures", "bench/analysis/undertrained.py",
        "    if run.limited or not learned:", "    if not learned:",
        _at("analysis/test_claims", "test_the_floor_is_judged_by_the_paired_interval_and_never_on_a_trial"),
    ),
    # ------------------------------------------------------------ separate processes
    Mutation(
        "apart: outputs are not compared", ROWS,
        "    if one.shape != other.shape or not", "    if False and not",
        _at("measure/test_point", "test_a_receiver_that_makes_something_else_apart_is_found"),
    ),
    Mutation(
        "apart: one process for all calls", APART + "remote.py",
        "        call = self.home.open(self.sight, seal)\n",
        "        if getattr(self, '_one', None) is not None:\n            return self._one\n"
        "        call = self._one = self.home.open(self.sight, seal)\n        call.close = lambda: ''\n",
        _at("measure/test_apart", "test_a_decoder_remembers_nothing",
            "test_nothing_passes_from_encoder_to_decoder[memory]"),
    ),
    Mutation(
        "apart: an encoder waits while a decoder runs", APART + "remote.py",
        "        self.rest()\n        call = self._open()\n        try:\n            told =",
        "        call = self._open()\n        try:\n            told =",
        _at("measure/test_apart", "test_a_waiting_encoder_has_ended_before_a_decoder_starts"),
    ),
    Mutation(
        "apart: no namespaces", APART + "confine.py",
        "    return done + [name for name, flag in _NAMESPACES.items() if libc().unshare(flag) == 0]",
        "    return done",
        _at("measure/test_apart", *(f"test_nothing_passes_from_encoder_to_decoder[{way}]"
                                    for way in ("port", "segment", "process"))),
    ),
    Mutation(
        "apart: no Landlock", APART + "confine.py",
        "    version = landlock_version()\n    if not version:\n", "    version = landlock_version()\n    if True:\n",
        _at("measure/test_apart", "test_pictures_salts_and_other_processes_cannot_be_read"),
    ),
    Mutation(
        "apart: no seccomp", APART + "confine.py",
        '    machine = os.uname().machine if sys.platform == "linux" else ""\n', '    machine = ""\n',
        _at("measure/test_apart", "test_what_the_kernel_keeps_or_tells_of_others_is_refused"),
    ),
    Mutation(
        "apart: secret folders show names and sizes", APART + "confine.py",
        "(*shared, *(one.resolve() for one in secret))", "(*shared,)",
        _at("measure/test_apart", "test_not_even_the_length_of_a_secret_file_can_be_asked"),
    ),
    Mutation(
        "apart: one folder for temporary files of all calls", APART + "nursery.py",
        "        private.mkdir(mode=0o700)\n", "        private = folder\n",
        _at("measure/test_apart", "test_temporary_files_do_not_pass_where_the_kernel_mounts_nothing"),
    ),
    Mutation(
        "apart: a file's write hint passes from process to process", APART + "confine.py",
        "(1, _WHOLE, _AT_LEAST, 1035)", "(1, _WHOLE, _AT_LEAST, 1040)",
        _at("measure/test_apart", "test_nothing_passes_from_encoder_to_decoder[hints-of-files]"),
    ),
    Mutation(
        "bits: a control word counts as the system's own uses do", AUDIT,
        "side_uses * max(own, word)\n", "side_uses * own\n",
        _at("measure/test_audit", "test_a_control_word_counts_the_bits_of_its_own_constellation"),
    ),
    Mutation(
        "rows: a cell keeps other rows than the check has seen", WORKER + "checks.py",
        "        if seen is not None and seen.point == at:\n", "        if False:\n",
        _at("sweep/test_sweep", "test_a_system_that_is_honest_in_the_checks_alone_keeps_no_rows"),
    ),
    Mutation(
        "rows: cells of before the comparison stay", "bench/sweep/worker/work.py",
        "            take_back(self.root, unit)\n", "",
        _at("sweep/test_sweep", "test_a_worker_takes_back_cells_without_being_told"),
    ),
    Mutation(
        "rows: cells stay although the one that was checked failed", "bench/sweep/worker/work.py",
        "            built.checks.hold_all_compared(unit, compared)\n", "",
        _at("sweep/test_sweep", "test_a_system_that_fails_in_the_cell_where_it_was_checked_keeps_nothing"),
    ),
    Mutation(
        "rows: only the first piece of a work unit is checked", WORKER + "checks.py",
        "        made = replace(unit.inputs, image_ids=(), points=())\n",
        "        if unit.inputs in self._passed:\n            return\n        self._passed.add(unit.inputs)\n"
        "        made = replace(unit.inputs, image_ids=(), points=())\n",
        _at("sweep/test_sweep", "test_every_piece_of_a_work_unit_is_checked_at_a_point_of_its_own"),
    ),
    Mutation(
        "seal: a system keeps its files", APART + "remote.py",
        "            sealed = seal and self._in_time(", "            sealed = False and self._in_time(",
        _at("measure/test_seal", "test_a_sealed_system_has_no_files[nothing]"),
    ),
    Mutation(
        "seal: an open file stays", APART + "seal.py",
        "    for held in _held(process, os.stat(private).st_dev, own):\n", "    for held in ():\n",
        _at("measure/test_seal", *(f"test_a_system_that_keeps_a_file_is_given_nothing[{kept}]"
                                   for kept in ("a-file", "a-thread-s-file", "a-thread-s-working-folder"))),
    ),
    Mutation(
        "seal: files are mapped that were not read", APART + "seal.py",
        "    read_files([one for one in mapped_files(str(process)) if one not in known])\n", "",
        _at("measure/test_seal",
            "test_it_makes_no_difference_which_pages_of_a_mapped_file_are_touched[Keeps]"),
    ),
    Mutation(
        "seal: another process goes on", APART + "seal.py",
        "    if others:\n", "    if False:\n",
        _at("measure/test_seal", "test_a_system_that_keeps_a_file_is_given_nothing[a-process]"),
    ),
    Mutation(
        "seal: a thread that is traced goes on", APART + "seal.py",
        '    if _states(process) - {"T", *_DEAD}:', "    if False:",
        _at("measure/test_seal", "test_a_thread_that_is_traced_is_not_taken_for_a_process_that_is_stopped"),
    ),
    Mutation(
        "seal: a mapped file is read in part", APART + "seal.py",
        "            while read := os.preadv(handle, [piece], place):\n",
        "            while place < 4096 and (read := os.preadv(handle, [piece[:4096]], place)):\n",
        _at("measure/test_seal", "test_a_file_is_read_whole_of_which_one_page_is_mapped"),
    ),
    Mutation(
        "seal: a folder that stays does not matter", APART + "seal.py",
        '    if not done:\n        raise Refused("the kernel', '    if False:\n        raise Refused("the kernel',
        _at("measure/test_seal", "test_a_folder_that_is_not_taken_away_leaves_nothing_unsealed"),
    ),
    Mutation(
        "seal: a call is not sealed although the one before was", APART + "remote.py",
        "            if sealed < self.sealed:", "            if False:",
        _at("measure/test_seal", "test_no_call_is_sealed_less_than_the_one_before"),
    ),
    Mutation(
        "apart: open files can be sent over sockets, and outlive their processes", APART + "confine.py",
        '    "sendmsg": (46, 211), "sendmmsg": (307, 269),\n', "",
        _at("measure/test_apart", "test_what_the_kernel_keeps_or_tells_of_others_is_refused"),
    ),
    Mutation(
        "apart: which names somebody asked for can be read", APART + "confine.py",
        '    "openat2": (437, 437),', '    "openat2": (-1, -1),',
        _at("measure/test_apart", "test_nothing_passes_from_encoder_to_decoder[names]"),
    ),
    Mutation(
        "apart: root leaves modes of files in /proc", APART + "confine.py",
        '_MS_RDONLY | _MS_NOSUID | _MS_NODEV, None)', '_MS_NOSUID | _MS_NODEV, None)',
        _at("measure/test_apart", "test_every_file_system_but_private_ones_is_read_only"),
    ),
    Mutation(
        "apart: a system kills the process that waits for its end", APART + "nursery.py",
        "    os.setsid()  # a process can signal", "    # a process can signal",
        _at("measure/test_apart", "test_a_system_cannot_kill_the_process_that_waits_for_its_end"),
    ),
    Mutation(
        "apart: an encoder waits while another system runs", WORKER + "work.py",
        "            self._built.systems.rest()\n", "",
        _at("sweep/test_sweep", "test_no_encoder_waits_while_another_system_runs"),
    ),
    Mutation(
        "apart: errors of systems are shown as they are", APART + "nursery_client.py",
        'shown(told.get("line", ""), 500)', 'str(told.get("line", ""))',
        _at("measure/test_apart", "test_no_text_of_a_system_can_write_over_a_terminal"),
    ),
    Mutation(
        "failures: means of a point are over the pictures that did not fail", "bench/sweep/make_tables.py",
        "point.lacking = True", "pass",
        _at("sweep/test_sweep", "test_a_point_with_a_failed_cell_has_no_mean"),
    ),
    Mutation(
        "failures: a verdict rests on the pictures that did not fail", "bench/analysis/compare_numbers.py",
        '"verdict": "undecided" if open_ else self', '"verdict": self',
        _at("analysis/test_compare", "test_who_fails_is_not_said_to_lose_all_pictures"),
    ),
    Mutation(
        "failures: means of a comparison are over the pictures that did not fail", "bench/analysis/compare_numbers.py",
        "        if open_:  # the rows", "        if False:  # the rows",
        _at("analysis/test_compare", "test_no_number_stands_where_cells_are_absent"),
    ),
    Mutation(
        "failures: a whole curve is over the SNRs that did not fail", "bench/analysis/compare_numbers.py",
        "        if group[ABSENT].to_numpy().any():\n", "        if False:\n",
        _at("analysis/test_compare", "test_nobody_gains_over_the_whole_curve_by_leaving_pictures_out"),
    ),
    Mutation(
        "failures: a claim is contradicted by the pictures that did not fail", "bench/analysis/claim_checks.py",
        "            if pair.absent:\n", "            if False:\n",
        _at("analysis/test_claims", "test_no_statement_is_contradicted_by_what_is_left"),
    ),
    Mutation(
        "apart: a namespace opens every folder of its name", APART + "readable_files.py",
        "        wanted += own_files(module)\n", '        wanted += files_of(module.partition(".")[0])\n',
        _at("measure/test_apart", "test_a_namespace_does_not_open_the_folders_of_its_name"),
    ),
    Mutation(
        "apart: the file behind a link can be measured", APART + "readable_files.py",
        "(one.parent, one.resolve().parent)", "(one.parent, one.parent)",
        _at("measure/test_apart", "test_not_even_the_length_of_a_secret_file_can_be_asked"),
    ),
    Mutation(
        "apart: sockets in the folder of temporary files can be reached", APART + "confine.py",
        '("/tmp", "/var/tmp", "/run", "/dev/shm")', '("/var/tmp", "/run", "/dev/shm")',
        _at("measure/test_apart", "test_sockets_in_the_folder_of_temporary_files_cannot_be_reached"),
    ),
    Mutation(
        "rows: a system that fails chooses where it is checked", WORKER + "checks.py",
        "        if at.snr_db in self._failed.get(unit.inputs, ()):\n", "        if False:\n",
        _at("sweep/test_sweep", "test_a_system_that_fails_in_a_check_does_not_choose_where_it_is_checked"),
    ),
    Mutation(
        "apart: data sets of a hub can be read", APART + "readable_files.py",
        'wanted += [*hub.glob("models--*"), cache / "torch"]', 'wanted += [hub.parent, cache / "torch"]',
        _at("measure/test_apart", "test_data_sets_of_a_hub_s_cache_cannot_be_read"),
    ),
    Mutation(
        "apart: a run computes third parties' systems itself", WORKER + "systems.py",
        "                if facts.plugin:\n", "                if False:\n",
        _at("sweep/test_sweep", "test_a_receiver_that_remembers_the_picture_is_caught"),
    ),
    Mutation(
        "apart: a run writes printed text before the task ends", WORKER + "printed.py",
        "            texts.append(text)\n", "            texts.append(text)\n        self.write()\n",
        _at("sweep/test_sweep", "test_what_a_system_prints_is_kept_after_its_task_not_before"),
    ),
    # ------------------------------------------------------------ third parties elsewhere
    Mutation(
        "outsiders: `list` imports them", "bench/cli/lists.py",
        "    from bench.spec.identity import tasks_of\n", "    from systems.registry import tasks_of\n",
        _at("cli/test_outsiders", "test_no_command_imports_a_third_party_s_system"),
    ),
    Mutation(
        "outsiders: their operations are counted in the harness", "bench/perf/flops.py",
        "        if not registry.is_ours(system):\n            return _counted_apart(run, figure_id, system)\n", "",
        _at("cli/test_outsiders", "test_no_command_imports_a_third_party_s_system"),
    ),
    Mutation(
        "outsiders: sidecars of their weights do not count", "systems/registry.py",
        "for path in (one, sidecar(one))", "for path in (one,)",
        _at("cli/test_outsiders", "test_all_files_of_a_checkpoint_count"),
    ),
    Mutation(
        "outsiders: a system of theirs may be a bound", "bench/spec/identity.py",
        "    if facts.plugin and facts.genie:", "    if False:",
        _at("cli/test_outsiders", "test_a_bound_of_a_third_party_s_is_refused_everywhere"),
    ),
    Mutation(
        "outsiders: the nursery imports them before it forks", APART + "ahead.py",
        "registry.own_modules().intersection(modules)", "set(modules)",
        _at("measure/test_apart", "test_no_module_of_a_stranger_is_imported_ahead"),
    ),
    Mutation(
        "outsiders: figures import them for their looks", "systems/registry.py",
        "    if entry is None:\n        label, colour",
        "    if (own := _find(name)) is not None and own.plugin:\n"
        "        told = {'label': getattr(own.load(), 'label', '')}\n"
        "    if entry is None:\n        label, colour",
        ("tests/systems/test_registry.py::test_looks_come_from_the_catalogue_or_from_what_a_run_was_told",),
    ),
    Mutation(
        "outsiders: their labels are shown as they are", "systems/registry.py",
        "        if label and borrowed(label):\n", "        if False:\n",
        ("tests/systems/test_registry.py::test_looks_come_from_the_catalogue_or_from_what_a_run_was_told",),
    ),
    Mutation(
        "outsiders: names that look like ours are accepted", "systems/registry.py",
        "        if word or not _NAME.fullmatch(point.name) or (holder is None and like):\n", "        if False:\n",
        ("tests/systems/test_registry.py::test_a_plugin_that_takes_a_name_of_ours_is_disabled_and_ours_works_on",),
    ),
    Mutation(
        "outsiders: of two packages with one name one runs", "systems/registry.py",
        "        elif len(rivals) > 1:", "        elif False:",
        ("tests/systems/test_entry_points.py::test_of_two_packages_with_one_name_none_runs",),
    ),
    Mutation(
        "outsiders: entry points are shown as they are", "systems/entry_points.py",
        "    plain = (point for point in found if _is_plain(point))\n", "    plain = found\n",
        ("tests/systems/test_entry_points.py::test_an_entry_point_cannot_write_over_a_terminal",),
    ),
    Mutation(
        "outsiders: what a class says of itself is not checked", APART + "remote.py",
        "        if not (_are_facts(told) if build else _is_look(told)):\n",
        "        if build and not _are_facts(told):\n",
        _at("measure/test_apart", "test_what_a_class_writes_of_itself_past_the_checks_is_checked"),
    ),
    Mutation(
        "outsiders: what they print is shown as it is", APART + "nursery_client.py",
        "shown(line, OUTPUT_BYTES) for line", "line for line",
        _at("measure/test_apart", "test_no_text_of_a_system_can_write_over_a_terminal"),
    ),
    Mutation(
        "outsiders: libraries run their code in the harness", "bench/__init__.py",
        "hide_entry_points()\n", "",
        _at("cli/test_outsiders", "test_no_library_runs_code_of_a_package_in_the_harness"),
    ),
    Mutation(
        "outsiders: libraries run their code beside other systems", APART + "nursery.py",
        "    hide_entry_points(order[\"module\"].partition(\".\")[0])\n", "",
        _at("measure/test_apart", "test_a_system_finds_entry_points_of_its_own_package_alone"),
    ),
    Mutation(
        "outsiders: the nursery runs modules of the working folder", APART + "nursery_client.py",
        "\"-P\", ", "", _at("measure/test_apart", "test_no_module_of_the_working_folder_runs_in_the_nursery"),
    ),
    Mutation(
        "outsiders: workers run modules of the working folder", "bench/sweep/engines/process.py",
        ", \"PYTHONSAFEPATH\": \"1\"", "",
        _at("sweep/test_engines", "test_no_module_of_the_working_folder_runs_in_a_spawned_worker"),
    ),
    Mutation(
        "outsiders: their weights are the metric's", "bench/measure/metrics/lpips_weights.py",
        "    if not hashlib.sha256(data).hexdigest().startswith(sha256):\n", "    if False:\n",
        _at("measure/test_lpips", "test_other_weights_under_the_names_of_lpips_are_no_metric"),
    ),
    Mutation(
        "outsiders: a label may be another's name", "bench/report/system_looks.py",
        " or names[bare] > (bare == registry.bare(name))", "",
        _at("report/test_system_looks", "test_no_label_stands_for_two_systems"),
    ),
    Mutation(
        "outsiders: a cut takes the name behind a label", "bench/report/system_looks.py",
        "shown(look.label)", "printable(look.label)",
        _at("report/test_system_looks", "test_no_letter_of_the_name_behind_a_label_is_cut"),
    ),
    Mutation(
        "figures' files: a label passes for one of ours", "bench/report/system_looks.py",
        " if registry.borrowed(label) else label\n", " if False else label\n",
        _at("report/test_system_looks", "test_no_file_of_a_figure_shows_a_system_under_another_s_name"),
    ),
    Mutation(
        "figures' files: a system of ours is renamed", "bench/report/system_looks.py",
        "    ours = registry.holds(name)\n", "    ours = False\n",
        _at("report/test_system_looks", "test_no_wish_of_a_manifest_renames_a_system_of_ours"),
    ),
    Mutation(
        "figures' files: a file renames a system of ours", "bench/spec/figure.py",
        "    if renamed := next(filter(registry.holds, look.label), None):\n", "    if renamed := None:\n",
        _at("spec/test_look", "test_no_file_renames_a_system_of_the_bench"),
    ),
    Mutation(
        "runs: a folder passes for a system", "bench/report/system_looks.py",
        " if run and registry.borrowed(run) else", " if False else",
        _at("report/test_system_looks", "test_no_run_passes_for_a_system"),
    ),
    Mutation(
        "figures' files: a third party has a colour of ours", "bench/report/system_looks.py",
        "        colour = colour if colour and _is_free(colour) else spare\n", "        colour = colour or spare\n",
        _at("report/test_system_looks", "test_no_file_of_a_figure_gives_a_system_the_colour_of_one_of_ours"),
    ),
    Mutation(
        "figures' files: one of ours has the colour of another", "bench/report/system_looks.py",
        "    colour = wish if wish and _is_free(wish, own) else own\n", "    colour = wish or own\n",
        _at("report/test_system_looks", "test_no_file_of_a_figure_gives_a_system_the_colour_of_one_of_ours"),
    ),
    Mutation(
        "figures' files: a label is blank", "bench/spec/look.py",
        "        if is_blank(text):\n", "        if False:\n",
        _at("spec/test_look", "test_no_label_of_a_file_is_blank"),
    ),
    Mutation(
        "figures' files: a colour is lost on white", "bench/spec/look.py",
        "    if too_light(colour):\n", "    if False:\n",
        _at("spec/test_look", "test_no_colour_of_a_file_is_lost_on_white"),
    ),
    Mutation(
        "outsiders: the axis of differences hides whose system it is", "bench/report/charts.py",
        '    whole = f"Δ to {reference}{unit}"', '    whole = f"Δ to {reference.partition(\' (\')[0]}{unit}"',
        _at("report/test_figures", "test_the_axis_of_differences_says_whose_system_the_reference_is"),
    ),
    Mutation(
        "outsiders: two curves of the page have one look", "bench/report/html/build.py",
        "several, looks[name])", "several, system_looks.style_of(name, facts))",
        _at("report/test_html", "test_no_two_systems_of_third_parties_share_colour_and_dash"),
    ),
    Mutation(
        "outsiders: the Tab key loads their channels", "bench/cli/completion.py",
        "    return CHANNELS.unloaded_names()\n", "    return list(CHANNELS.names())\n",
        _at("cli/test_outsiders", "test_the_tab_key_runs_no_code_of_a_package"),
    ),
    Mutation(
        "outsiders: a name can be the beginning of the audit's words", APART + "remote.py",
        'f"audit: system {name}")', 'f"audit: system {name}", name)',
        _at("measure/test_apart", "test_no_system_speaks_in_the_name_of_another"),
    ),
    Mutation(
        "outsiders: a token at the end of a longer name is theirs", APART + "variables.py",
        "(?:TOKENS?|KEYS?|(?:^|_)(?:PASS|PWD))(?:_|$)", "(?:^|_)(?:TOKENS?|KEYS?|PASS|PWD)(?:_|$)",
        _at("measure/test_apart", "test_a_process_has_only_the_variables_that_libraries_read"),
    ),
    Mutation(
        "outsiders: wide signs begin a formula in a table", "bench/util/files.py",
        'unicodedata.normalize("NFKC", text).split(";")', 'text.split(";")',
        _at("util/test_files", "test_a_formula_of_a_sheet_is_told_from_a_number"),
    ),
    Mutation(
        "outsiders: a formula follows a semicolon in a table", "bench/util/files.py",
        'unicodedata.normalize("NFKC", text).split(";")', '[unicodedata.normalize("NFKC", text)]',
        _at("util/test_files", "test_a_formula_of_a_sheet_is_told_from_a_number"),
    ),
    Mutation(
        "outsiders: a text is a formula in a table of figures", "bench/results/csv_tables.py",
        "no_formula(value) if isinstance(value, str) else value", "value",
        _at("results/test_runs_of_others", "test_no_text_of_a_run_is_a_formula_in_a_table_of_csv"),
    ),
    Mutation(
        "outsiders: a text is a formula in a table that the page saves", "bench/report/html/csv.js",
        "seen.split(\";\").some(begins)", "false",
        _at("report/test_html", "test_no_text_is_a_formula_in_a_table_that_the_page_saves"),
    ),
    Mutation(
        "apart: an error may be no message", APART + "nursery_client.py",
        "        if not isinstance(told, dict) or not all(isinstance(text, str) for text in told.values()):\n",
        "        if False:\n",
        _at("measure/test_apart", "test_an_error_that_is_no_message_is_one_line"),
    ),
    Mutation(
        "apart: bits per use may be any number", APART + "child.py",
        "    if not is_bits_per_use(rate):\n", "    if False:\n",
        _at("measure/test_apart", "test_facts_that_the_plan_or_a_table_cannot_use_are_refused"),
    ),
    Mutation(
        "outsiders: a colour of 5,000 digits is read", "bench/util/colours.py",
        "not 0 < len(value) <= _LONGEST_NAME:", "not value:",
        _at("report/test_system_looks", "test_what_is_no_colour_is_none"),
    ),
    Mutation(
        "outsiders: an error is a formula in a table", "bench/sweep/make_tables.py",
        "no_formula(error)", "error",
        _at("sweep/test_runs", "test_an_error_is_no_formula_in_the_table_of_failures"),
    ),
    Mutation(
        "outsiders: a label is Markdown in a table", "bench/util/markdown.py",
        r'''re.sub(r"([\\|`*<>&\[\]])", r"\\\1", shown(text, 1000))''',
        r'''shown(text, 1000).replace("|", "\\|")''',
        _at("report/test_tables", "test_no_name_is_markdown_or_html_in_a_table"),
    ),
    Mutation(
        "outages: a failed cell leaves the classes of the rest", "bench/report/class_tables.py",
        "run.whole_samples_of(figure)", "run.samples_of(figure)",
        _at("report/test_tables", "test_a_failed_cell_leaves_no_table_of_what_is_left"),
    ),
    Mutation(
        "outages: a failed cell leaves the latency of the rest", "bench/report/overheads.py",
        "own.iloc[:0] if (system, variant) in lacking else own", "own",
        _at("report/test_tables", "test_a_failed_cell_leaves_no_table_of_what_is_left"),
    ),
    Mutation(
        "outsiders: a label is that of a published curve", "bench/report/system_looks.py",
        "(*found.values(), *published_labels())", "found.values()",
        _at("report/test_system_looks", "test_no_label_is_that_of_a_published_curve"),
    ),
    Mutation(
        "outsiders: a curve has no name in the legend", "bench/report/charts.py",
        'if text.startswith("_") else text', "if False else text",
        _at("report/test_figures", "test_every_curve_has_a_name_in_the_legend"),
    ),
    Mutation(
        "runs of others: a manifest writes over a terminal", "bench/results/manifest.py",
        " or _writes_over_a_terminal(manifest)\n", "\n",
        _at("results/test_runs_of_others", "test_a_manifest_with_control_characters_is_refused"),
    ),
    Mutation(
        "runs of others: a table writes over a terminal", "bench/results/reader.py",
        'for name in ("system", "variant", "dataset", "channel"):', "for name in ():",
        _at("results/test_runs_of_others", "test_a_table_with_control_characters_is_refused"),
    ),
    Mutation(
        "outsiders: what a dict of theirs holds is not looked at", "bench/results/reader.py",
        "    if isinstance(value, dict):\n        return {key: own",
        "    if isinstance(value, dict):\n        return value or {key: own",
        _at("report/test_tables", "test_what_a_system_says_it_has_seen_is_counts_or_nothing"),
    ),
    Mutation(
        "apart: a picture has two rows of side information", APART + "remote.py",
        '            self._check_rows("side information", told["side_info"], batch)\n', "",
        _at("measure/test_apart", "test_each_picture_of_a_call_has_one_row"),
    ),
    Mutation(
        "outsiders: a link beside a module opens its target", APART + "readable_files.py",
        "    if path.is_symlink():\n        return False\n", "",
        _at("measure/test_apart", "test_a_link_opens_nothing_that_the_user_did_not_name"),
    ),
    Mutation(
        "outsiders: a link in place of a sidecar opens its target", "systems/registry.py",
        "            if path.is_symlink() and (", "            if False and (",
        _at("measure/test_apart", "test_a_link_opens_nothing_that_the_user_did_not_name"),
    ),
    Mutation(
        "outsiders: their code trains beside others", "bench/training/run.py",
        "    if foreign and len(chosen) > 1:", "    if False:",
        _at("training/test_run", "test_a_third_party_s_code_does_not_run_where_others_are_trained"),
    ),
    Mutation(
        "outages: the page shows differences where pictures were lost", "bench/report/html/build.py",
        " & ((figure[\"channel\"] != \"awgn\") | ~(rows[\"n_outage\"] > 0))", "",
        _at("report/test_html", "test_nobody_gains_in_the_page_by_losing_the_hard_pictures"),
    ),
    Mutation(
        "outsiders: a label may hold another system's name", "bench/report/system_looks.py",
        "                taken = taken or _holds_another(name, bare, labels)\n", "                pass\n",
        _at("report/test_system_looks", "test_no_label_holds_the_name_of_another_system"),
    ),
    Mutation(
        "claims: a statement is judged at any point", "bench/analysis/claim_evidence.py",
        "        if not differences(figure, name):\n", "        if True:\n",
        _at("analysis/test_claims", "test_no_statement_is_judged_at_another_point_than_the_paper_s"),
    ),
    Mutation(
        "claims: a cliff is counted at any point", "bench/analysis/claim_checks.py",
        "(at_a_paper_point(table[table[\"system\"].isin(names)]) for", "(table[table[\"system\"].isin(names)] for",
        _at("analysis/test_claims", "test_no_statement_is_judged_at_another_point_than_the_paper_s"),
    ),
    Mutation(
        "claims: one SNR decides of a curve", "bench/analysis/claim_evidence.py",
        "strict=True) if number >= FEWEST_SNRS]", "strict=True) if number]",
        _at("analysis/test_claims", "test_few_snrs_decide_no_statement_about_a_curve"),
    ),
    Mutation(
        "claims: two SNRs decide of a cliff", "bench/analysis/claim_checks.py",
        "        if rows[\"snr_db\"].nunique() < FEWEST_SNRS:\n", "        if False:\n",
        _at("analysis/test_claims", "test_few_snrs_decide_no_statement_about_a_curve"),
    ),
    Mutation(
        "claims: two SNRs at which both decode give a slope", "bench/analysis/claim_checks.py",
        "            if not n or len(snrs) < FEWEST_SNRS:\n", "            if not n:\n",
        _at("analysis/test_claims", "test_a_rival_that_decodes_at_few_snrs_has_no_slope"),
    ),
    Mutation(
        "compare: repetitions are left out silently", "bench/analysis/matching.py",
        "    return snrs + repetitions\n", "    return snrs\n",
        _at("analysis/test_compare", "test_repetitions_that_one_side_lacks_are_named"),
    ),
    Mutation(
        "pictures: copies of one count as many", "bench/spec/request.py",
        "            dataset.refuse_copies()\n", "            pass\n",
        _at("data/test_data", "test_a_set_with_copies_of_a_picture_is_refused"),
    ),
    Mutation(
        "weights: an altered sidecar has the name of the shipped weights", "systems/learned.py",
        "tag if same else f\"{tag}-{hashlib.sha256(told.encode()).hexdigest()[:4]}\"", "tag",
        ("tests/systems/test_weight_files.py::"
         "test_another_sidecar_beside_the_shipped_weights_is_another_variant",),
    ),
    Mutation(
        "claims: a trial is not called one", "bench/analysis/claims.py",
        'if run.limited and found.rests_on else ""', 'if False else ""',
        _at("analysis/test_claims", "test_a_verdict_rests_on_no_more_than_the_rival_with_the_fewest_snrs"),
    ),
    Mutation(
        "claims: a verdict does not say what it rests on", "bench/analysis/claims.py",
        "found.numbers, found.rests_on + trial, weak)", "found.numbers, \"\", weak)",
        _at("analysis/test_claims", "test_each_verdict_names_what_it_rests_on"),
    ),
    Mutation(
        "failures: a claim rests on the pictures that did not fail", "bench/analysis/claim_evidence.py",
        "    tally.complete &= not lacking\n", "",
        _at("analysis/test_claims", "test_no_statement_holds_where_cells_are_absent"),
    ),
    Mutation(
        "failures: galleries call a failed cell not simulated", "bench/results/reader.py",
        'f" {image_id} " in f" {images} " for', "False for",
        _at("report/test_figures", "test_an_output_that_failed_is_no_output_that_was_not_simulated"),
    ),
    Mutation(
        "checkpoints: the first of several speaks for all", "systems/per_snr.py",
        '            "undertrained": any(weak),\n', "",
        ("tests/systems/test_weight_files.py::test_the_worst_checkpoint_speaks_for_all",),
    ),
    Mutation(
        "checkpoints: counts of those that tell them speak for all", "systems/per_snr.py",
        "_least([*seen.values()])", "_least([one for one in seen.values() if isinstance(one, dict)])",
        ("tests/systems/test_weight_files.py::test_what_one_checkpoint_does_not_tell_is_not_told_for_all",),
    ),
    Mutation(
        "checkpoints: knowledge that one does not tell is left out", "systems/per_snr.py",
        "str(own or NOT_KNOWN).split", "str(own or \"none\").split",
        ("tests/systems/test_weight_files.py::test_what_one_checkpoint_does_not_tell_is_not_told_for_all",),
    ),
    Mutation(
        "checkpoints: one that tells nothing hides one that was trained too little", "bench/analysis/undertrained.py",
        "*(several.values() if isinstance(several, dict) else ())", "",
        _at("analysis/test_claims", "test_a_checkpoint_that_tells_nothing_hides_no_other_that_was_trained_too_little"),
    ),
    Mutation(
        "checkpoints: a stranger's configuration makes a network of any size", "systems/weight_files.py",
        "        left -= HEAD +", "        left -= 0 *",
        ("tests/systems/test_weight_files.py::test_a_configuration_of_others_that_makes_no_network_is_one_line",),
    ),
    Mutation(
        "packs: a sidecar does not say that its sources are a pack's words", "bench/training/sidecar.py",
        '        **({"packs": packs} if packs else {}),\n', "",
        _at("training/test_pack", "test_training_reads_it_as_a_source_and_in_place_of_the_data_root"),
    ),
    Mutation(
        "packs: tables do not say so", "bench/report/overheads.py",
        ' + (" (as a pack says)" if _has_packs(data) else "")', "",
        _at("report/test_tables", "test_what_a_pack_says_of_its_pictures_is_said_to_be_what_it_says"),
    ),
    Mutation(
        "states: any steps and crops are a run's", "bench/training/resume.py",
        '    if not schedule.agrees(facts["step"], facts["done"], facts["seen"]):', "    if False:",
        _at("training/test_run", "test_a_state_whose_facts_are_of_no_run_is_one_line"),
    ),
    Mutation(
        "figures: an overlay loses the mark of undertrained systems", "bench/report/drawing_job.py",
        "undertrained(self.run, self.figures).union(others)", "undertrained(self.run, self.figures)",
        _at("report/test_figures", "test_an_overlay_keeps_its_marks"),
    ),
    Mutation(
        "outsiders: names of any length", "systems/registry.py",
        "{0,59}\")", "*\")",
        ("tests/systems/test_registry.py::test_a_plugin_that_takes_a_name_of_ours_is_disabled_and_ours_works_on",),
    ),
    Mutation(
        "identity: what is imported below TYPE_CHECKING does not count", "bench/spec/source_code.py",
        "(_walk if ours else ast.walk)", "_walk",
        _at("spec/test_source_code", "test_imports_are_followed_and_nothing_else_counts"),
    ),
    Mutation(
        "identity: imports by keyword do not count", "bench/spec/source_code.py",
        "    given = {keyword.arg: keyword.value for keyword in call.keywords}", "    given = {}",
        _at("spec/test_source_code", "test_imports_are_followed_and_nothing_else_counts"),
    ),
    Mutation(
        "identity: what a star imports does not count", "bench/spec/source_code.py",
        '    if name != "*":\n', "    if True:\n",
        _at("spec/test_source_code", "test_a_star_imports_what_the_package_lists"),
    ),
    Mutation(
        "identity: a module with a codec of its own is read as utf-8", "bench/spec/source_code.py",
        "        if _is_utf_8(data):\n", "        if True:\n",
        _at("spec/test_source_code", "test_where_imports_are_unclear_the_whole_package_counts"),
    ),
    Mutation(
        "identity: a module that cannot be read imports nothing", "bench/spec/source_code.py",
        "tree is None or any(", "tree is not None and any(",
        _at("spec/test_source_code", "test_where_imports_are_unclear_the_whole_package_counts"),
    ),
    Mutation(
        "identity: a module may move its own imports", "bench/spec/source_code.py",
        "any(_moves(node) or _runs_text(node) for", "any(_runs_text(node) for",
        _at("spec/test_source_code", "test_where_imports_are_unclear_the_whole_package_counts"),
    ),
    Mutation(
        "identity: no module that reads its package is clear", "bench/spec/source_code.py",
        '_called(node) in _PLACE - {"__package__"}', "_called(node) in _PLACE",
        _at("spec/test_source_code", "test_a_module_that_only_reads_its_place_is_clear"),
    ),
    Mutation(
        "figures: one system sets the scale of all error maps", "bench/report/gallery.py",
        "min(largest, MOST_OF_MIDDLE * middle)", "largest",
        _at("report/test_figures", "test_no_system_makes_the_error_maps_of_the_others_black"),
    ),
    Mutation(
        "outsiders: data sets in the harness are not named", "bench/sweep/make_manifest.py",
        ", *catalogue.foreign()]", "]",
        _at("test_extensions", "test_one_package_adds_one_of_each"),
    ),
    Mutation(
        "documents: the README's table differs from the rules", "README.md",
        "are fixed beforehand", "are fixed",
        _at("measure/test_rules", "test_the_readme_shows_the_rules_as_they_are"),
    ),
    # ------------------------------------------------------------ copies of runs, chance in training
    Mutation(
        "copies: a point without a mean is forgotten", "bench/sweep/restore.py",
        "    if len(run.lacking):\n", "    if False:\n",
        _at("sweep/test_restore", "test_a_run_that_lacks_cells_is_not_restored"),
    ),
    Mutation(
        "copies: cells that were never computed are forgotten", "bench/sweep/restore.py",
        "    if expected is not None and (", "    if False and (",
        _at("sweep/test_restore", "test_a_run_that_lacks_cells_is_not_restored"),
    ),
    Mutation(
        "copies: a run that has not ended is copied", "bench/sweep/restore.py",
        "    if not run.ended:", "    if False:",
        _at("sweep/test_restore", "test_a_run_that_lacks_cells_is_not_restored"),
    ),
    Mutation(
        "copies: trainings with other seeds stay behind", "bench/sweep/restore.py",
        "(*pictures, *seeds):", "(*pictures,):",
        _at("sweep/test_restore", "test_what_is_undecided_between_trainings_is_undecided_in_the_copy"),
    ),
    Mutation(
        "copies: a cell takes the budget of another SNR", "bench/sweep/restore.py",
        'run.samples_of(figure)["cell_id"]', 'run.samples["cell_id"]',
        _at("sweep/test_restore", "test_cells_come_back_with_what_no_table_tells_of_them"),
    ),
    Mutation(
        "copies: a link is followed", "bench/sweep/restore.py",
        "    if os.path.lexists(file) and (", "    if False and (",
        _at("sweep/test_restore", "test_a_link_in_a_run_is_not_followed"),
    ),
    Mutation(
        "copies: a cell has any id", "bench/sweep/restore.py",
        "        check_unit(unit, run.directory)\n", "        pass\n",
        _at("sweep/test_restore", "test_what_cannot_be_restored_is_one_line_and_leaves_nothing"),
    ),
    Mutation(
        "trainings: a column that is not summarised has no spread", "bench/analysis/training_spread.py",
        "    if metric not in rows or rows[metric].dtype == object:", "    if True:",
        _at("analysis/test_training_spread", "test_no_column_decides_what_another_seed_could_turn"),
    ),
    Mutation(
        "trainings: the page decides what another seed could turn", "bench/report/html/verdict.js",
        '  if (spread === null || Math.abs(mean) < spread) return "undecided";\n', "",
        _at("report/test_html", "test_the_page_decides_no_more_than_compare"),
    ),
    Mutation(
        "claims: a bound of the uses speaks against the upper curve", "bench/analysis/claim_overhead.py",
        "(above != 0) & (above * bound <= 0), bound, np.nan", "above != 0, bound, np.nan",
        _at("analysis/test_claims", "test_a_bound_of_uses_speaks_for_the_upper_curve_alone"),
    ),
    Mutation(
        "claims: resamples that prove nothing are left out", "bench/analysis/claim_overhead.py",
        "    draws = gap(resampled_sums(both, RESAMPLES, 0) / n)\n",
        "    draws = gap(resampled_sums(both, RESAMPLES, 0) / n)\n    draws = draws[~np.isnan(draws)]\n",
        _at("analysis/test_claims", "test_resamples_that_prove_nothing_decide_no_overhead"),
    ),
    Mutation(
        "trainings: fewer uses hold that another seed could save", "bench/analysis/claim_overhead.py",
        "interval.high < 0 and -interval.mean >= moves", "interval.high < 0",
        _at("analysis/test_training_spread", "test_uses_that_another_seed_could_save_prove_no_lower_overhead"),
    ),
    Mutation(
        "trainings: one that lacks cells is left out", "bench/analysis/training_spread.py",
        "    if without_cells(run, system):\n        return UNKNOWN\n    points", "    points",
        _at("analysis/test_training_spread", "test_nothing_is_decided_where_a_training_lacks_cells"),
    ),
    Mutation(
        "trainings: fewer uses hold where one lacks cells", "bench/analysis/claim_overhead.py",
        "        if without_cells(run, name):\n", "        if False:\n",
        _at("analysis/test_training_spread", "test_uses_that_another_seed_could_save_prove_no_lower_overhead"),
    ),
    Mutation(
        "trainings: the page decides where one lacks cells", "bench/report/html/verdict.js",
        "spread === null || ", "",
        _at("report/test_html", "test_the_words_of_the_page_are_those_of_compare"),
    ),
    Mutation(
        "trainings: one that has not ended counts as lacking", "bench/results/trainings.py",
        "        if not one.ended:\n", "        if False:\n",
        _at("results/test_trainings", "test_the_run_of_a_training_has_ended"),
    ),
    Mutation(
        "trainings: a system without weights has them", "bench/results/trainings.py",
        "        _leave_trained(one)\n", "",
        _at("results/test_trainings", "test_a_system_without_weights_has_no_trainings"),
    ),
    Mutation(
        "trainings: points that the run lacks count", "bench/results/trainings.py",
        '        _cut(run, one, ["system", *point, "snr_db"])\n', "",
        _at("results/test_trainings", "test_the_spread_is_that_of_the_points_of_the_run"),
    ),
    Mutation(
        "trainings: of another network", "bench/results/trainings.py",
        "    if other:\n", "    if False:\n",
        _at("results/test_trainings", "test_a_training_differs_in_its_weights_alone"),
    ),
    Mutation(
        "trainings: one counts twice", "bench/results/trainings.py",
        "            if first is not one:", "            if False:",
        _at("results/test_trainings", "test_a_training_differs_in_its_weights_alone"),
    ),
    Mutation(
        "trainings: on other pictures", "bench/results/trainings.py",
        "    if names:\n", "    if False:\n",
        _at("results/test_trainings", "test_a_training_has_the_pictures_of_the_run"),
    ),
    Mutation(
        "trainings: a copy has those that lack cells", "bench/sweep/restore.py",
        "    for seed in run.seeds:\n        _check_whole(seed)\n", "",
        _at("sweep/test_restore", "test_a_run_whose_trainings_lack_cells_is_not_restored"),
    ),
    Mutation(
        "uses: a copy forgets the ledger", "bench/sweep/restore.py",
        "        _keep_uses(run, units, cells, target)\n", "",
        _at("sweep/test_restore", "test_a_copy_holds_a_third_party_to_the_uses_of_the_run"),
    ),
    Mutation(
        "outsiders: a system is called like a side of a comparison", "systems/registry.py",
        "        word = point.name.lower() in _WORDS\n", "        word = False\n",
        ("tests/systems/test_registry.py::test_a_plugin_that_takes_a_name_of_ours_is_disabled_and_ours_works_on",),
    ),
    Mutation(
        "compare: a whole curve speaks where nothing is decided", "bench/analysis/compare_text.py",
        "({DELIVERED}{_open(group)})", "({DELIVERED})",
        _at("analysis/test_compare", "test_the_number_of_a_whole_curve_says_what_the_verdict_says"),
    ),
    Mutation(
        "salt: one that was published is called a secret", "bench/sweep/salt.py",
        ' or "published" in before:', ":",
        _at("sweep/test_runs", "test_a_salt_that_was_known_once_is_never_called_a_secret"),
    ),
    Mutation(
        "identity: code that runs as text imports unseen", "bench/spec/source_code.py",
        " or _runs_text(node) for", " for",
        _at("spec/test_source_code", "test_where_imports_are_unclear_the_whole_package_counts"),
    ),
    Mutation(
        "growth: a system that changes loses its failures", "bench/sweep/grow.py",
        "        if cells and unit.system in changed:\n",
        "        if unit.system in changed:\n            continue\n        if False:\n",
        _at("cli/test_outsiders", "test_no_system_loses_its_failures_by_changing"),
    ),
    Mutation(
        "outages: a whole curve favours a side that left pictures out", "bench/analysis/compare_numbers.py",
        '            if lost["a" if value > 0 else "b"]:\n', "            if False:\n",
        _at("analysis/test_compare", "test_no_number_of_a_whole_curve_favours_a_side_that_chose_its_pictures",
            "test_nobody_gains_over_the_whole_curve_by_leaving_pictures_out"),
    ),
    Mutation(
        "page: few pictures have other intervals than in compare", "bench/analysis/all_pairs.py",
        "            if few(len(images)) and not", "            if False and not",
        _at("analysis/test_all_pairs", "test_few_pictures_have_the_interval_that_compare_gives"),
    ),
    Mutation(
        "plot: a curve of a system that was asked for something else", "bench/report/drawing_job.py",
        "            if not _asked_for_the_same(figure, run):\n", "            if False:\n",
        _at("report/test_figures", "test_an_overlay_was_asked_for_the_same"),
    ),
    Mutation(
        "uses: a figure shows the rows of another budget", "bench/results/reader.py",
        '        budgets.append(("uses_target", "uses"))\n', "        pass\n",
        _at("sweep/test_runs", "test_budgets_in_uses_are_points_of_their_own"),
    ),
    Mutation(
        "uses: systems with other budgets are compared", "bench/results/reader.py",
        'BUDGETS = ["cbr_target", "bits_target", "uses_target"]', 'BUDGETS = ["cbr_target", "bits_target"]',
        _at("sweep/test_runs", "test_budgets_in_uses_are_points_of_their_own"),
    ),
    Mutation(
        "requirement: one run has two for one point", "bench/spec/request.py",
        '        elif a.get("requirement") != b.get("requirement"):', "        elif False:",
        _at("sweep/test_runs", "test_a_run_does_not_grow_by_rows_that_no_column_tells_apart"),
    ),
    Mutation(
        "requirement: a figure asks for another task", "bench/spec/request.py",
        "    notes += dict.fromkeys(note for note in map(check_request, figures) if note)\n", "",
        _at("sweep/test_runs", "test_a_figure_s_requirement_asks_for_its_task"),
    ),
    Mutation(
        "requirement: any sentence is the paper's", "bench/analysis/paper_points.py",
        '    asked = other_request(figure["task"], figure["requirement"])\n', '    asked = ""\n',
        _at("analysis/test_claims", "test_no_statement_is_judged_at_another_point_than_the_paper_s"),
    ),
    Mutation(
        "requirement: two runs with other ones are compared", "bench/analysis/matching.py",
        "        left, right, notes = _asked_for_the_same(left, right, notes)\n", "",
        _at("analysis/test_compare", "test_two_runs_that_were_asked_for_different_things_are_not_compared"),
    ),
    Mutation(
        "pictures: a point keeps the mean of those that were there first", "bench/sweep/grow.py",
        "(*kept, *_of_new_pictures(plan, kept))", "tuple(kept)",
        _at("sweep/test_runs", "test_points_from_before_a_data_set_grew_have_no_mean"),
    ),
    Mutation(
        "plot: a drawing hides another", "bench/report/figures.py",
        "        if key not in figure_of:\n", "        if True:\n",
        _at("report/test_figures", "test_no_drawing_hides_another"),
    ),
    Mutation(
        "report: two runs of one name share their facts", "bench/report/html/build.py",
        "    runs, several = told_apart(runs), len(runs) > 1", "    several = len(runs) > 1",
        _at("report/test_html", "test_two_runs_of_one_name_keep_their_own_facts"),
    ),
    Mutation(
        "undertrained: a stranger's figure marks a system in all", "bench/analysis/claims.py",
        'papers = [figure for figure in run.figures if figure["id"] in PAPER_FIGURES]', "papers = None",
        _at("analysis/test_claims", "test_a_figure_of_somebody_else_marks_no_system_in_other_figures"),
    ),
    Mutation(
        "undertrained: at any SNR and budget", "bench/analysis/undertrained.py",
        '        rows = rows[rows["snr_db"].between(*SNRS_DB)]\n', "",
        _at("analysis/test_claims", "test_a_figure_of_somebody_else_marks_no_system_in_other_figures"),
    ),
    Mutation(
        "plot: a file's limits hide curves", "bench/report/charts.py",
        "        low, high = min(low, max(chart.reach[0], low - span)), max(high, min(chart.reach[1], high + span))\n",
        "        low, high = chart.reach\n",
        _at("report/test_figures", "test_a_file_hides_no_curve_by_the_limits_of_its_axis"),
    ),
    Mutation(
        "plot: lost pictures above where all arrive are not named", "bench/report/footnote.py",
        "            if curve.loses_again is not None:\n", "            if False:\n",
        _at("report/test_figures",
            "test_the_footnote_says_where_a_system_loses_pictures_above_where_it_delivers_all"),
    ),
    Mutation(
        "run: grows by a figure that makes plot refuse it", "bench/sweep/grow.py",
        "        check_apart(figures.values())\n", "        pass\n",
        _at("sweep/test_runs", "test_a_run_does_not_grow_by_figures_that_cannot_be_drawn_with_its_own"),
    ),
    Mutation(
        "mIoU: a resample counts classes that it does not show", "bench/measure/metrics/segmentation.py",
        "np.where(lacking, 0, unions)", "unions",
        _at("analysis/test_intervals", "test_a_few_stray_pixels_do_not_move_an_interval_away_from_its_mean"),
    ),
    Mutation(
        "intervals: one on the other side of 0 than its mean decides", "bench/analysis/intervals.py",
        " or self.mean <= 0 < self.low or self.high < 0 <= self.mean:", ":",
        _at("analysis/test_intervals",
            "test_an_interval_on_the_other_side_of_0_than_its_mean_decides_nothing"),
    ),
    Mutation(
        "labels: a manifest makes a third party's system one of ours", "systems/registry.py",
        "        elif not label and borrowed(name):",
        '        elif not label and told.get("plugin") and borrowed(name):',
        ("tests/systems/test_registry.py::test_looks_come_from_the_catalogue_or_from_what_a_run_was_told",),
    ),
    Mutation(
        "plot: pictures that a manifest does not name are the same", "bench/report/figures.py",
        "            if same is None:\n", "            if False:\n",
        _at("report/test_figures", "test_an_overlay_whose_pictures_are_not_known_is_named"),
    ),
    Mutation(
        "channel: the noise is rounded before it is added", "bench/measure/channel.py",
        "        return torch.from_numpy(values).to(symbols.device)\n",
        "        return torch.from_numpy(values).to(torch.complex64).to(symbols.device)\n",
        _at("measure/test_channel", "test_what_is_received_is_rounded_once"),
    ),
    Mutation(
        "channel: the sum is one of float32 numbers", "bench/measure/channel.py",
        "(faded + place(noise)).to(torch.complex64)", "faded.to(torch.complex64) + place(noise).to(torch.complex64)",
        _at("measure/test_channel", "test_no_digit_of_a_symbol_arrives_where_the_noise_covers_it"),
    ),
    Mutation(
        "trainings: another figure's spread counts for all", "bench/analysis/training_spread.py",
        "    return next((rows for rows in (same[exact], same) if len(rows)), points)\n", "    return points\n",
        _at("analysis/test_training_spread",
            "test_another_figure_in_the_trainings_changes_no_spread_at_a_measured_point",
            "test_a_point_without_trainings_has_the_spread_of_its_channel"),
    ),
    Mutation(
        "trainings: cells that failed at points which the run lacks count", "bench/results/trainings.py",
        '    training.__dict__["failures"] = ', "    _ = ",
        _at("analysis/test_training_spread", "test_a_cell_that_failed_at_a_point_which_the_run_lacks_says_nothing"),
    ),
    Mutation(
        "budgets: two that tables do not tell apart", "bench/spec/request.py",
        "math.isclose(one, other, rel_tol=1e-6, abs_tol=2e-9)", "False",
        _at("sweep/test_runs", "test_two_figures_with_nearly_one_cbr_are_refused"),
    ),
    Mutation(
        "noise: rows tell the seeds", POINT,
        "noise_ids = conditions.seeds(batch.ids, points[index], NOISE_ID)",
        'noise_ids = conditions.seeds(batch.ids, points[index], "channel")',
        _at("sweep/test_runs", "test_no_file_of_a_run_tells_a_seed"),
    ),
    Mutation(
        "salt: published while cells are to come", "bench/sweep/execute.py",
        "if not interrupted and (run.salt_is in KNOWN_SALTS or not to_come):", "if not interrupted:",
        _at("sweep/test_runs", "test_a_salt_is_published_only_when_no_cell_is_to_come"),
    ),
    Mutation(
        "salt: published by a command beside the run", "bench/sweep/execute.py",
        "            if run.store.holds_lock:\n                run.store.write_manifest(manifest)\n        finally:",
        "            run.store.write_manifest(manifest)\n        finally:",
        _at("sweep/test_runs", "test_a_salt_is_published_only_when_no_cell_is_to_come"),
    ),
    Mutation(
        "files: a package may change while a run goes on", "bench/spec/identity.py",
        "            if touched:\n", "            if False:\n",
        _at("sweep/test_runs", "test_a_file_that_others_may_write_stays_as_it_is_while_a_run_goes_on"),
    ),
    Mutation(
        "files: put back, they count as unchanged", "bench/spec/frozen_files.py",
        "one.st_size, one.st_mtime_ns, one.st_ctime_ns)", "one.st_size, one.st_mtime_ns)",
        _at("spec/test_frozen_files", "test_every_change_of_a_package_is_seen"),
    ),
    Mutation(
        "files: what is hidden from a system stops its run", "bench/spec/frozen_files.py",
        "    secret = [os.path.realpath(path) for path in hidden]\n", "    secret = []\n",
        _at("spec/test_frozen_files", "test_what_a_system_cannot_open_may_change"),
    ),
    Mutation(
        "compare: more uses are better if they are divided by 3 h w", "bench/analysis/quantity.py",
        '"n_uses", "cbr", "bits",', '"n_uses", "bits",',
        _at("analysis/test_compare", "test_of_a_cost_less_is_better",
            "test_no_side_is_ahead_by_its_own_word"),
    ),
    Mutation(
        "compare: a system's own word decides", "bench/analysis/compare_numbers.py",
        "(metric not in known or quantity(metric).column not in", "(quantity(metric).column not in",
        _at("analysis/test_compare", "test_no_side_is_ahead_by_its_own_word"),
    ),
    Mutation(
        "compare: known noise is not named", "bench/analysis/compare.py",
        " if noise_was_known(one.run.manifest)]", " if False]",
        _at("analysis/test_compare", "test_known_noise_is_named_beside_a_third_party_s_system"),
    ),
    Mutation(
        "names: signs that look alike differ", "systems/registry.py",
        '"l1|05q96278(", "iiiosgggztbc"', '"l1|05", "iiios"',
        ("tests/systems/test_registry.py::test_no_name_looks_like_one_of_ours",),
    ),
    Mutation(
        "snr: a blind encoder is told one before the run", "bench/sweep/worker/trial.py",
        "else [math.nan]", "else [highest]",
        _at("sweep/test_runs", "test_a_blind_encoder_is_told_no_snr_in_the_whole_run"),
    ),
    Mutation(
        "salt: published while cells of an earlier command are to come", "bench/sweep/execute.py",
        "- failed_before.keys()) + others\n", "- failed_before.keys())\n",
        _at("sweep/test_runs", "test_a_salt_is_published_only_when_no_cell_is_to_come"),
    ),
    Mutation(
        "files: those that a group may write do not count", "bench/spec/frozen_files.py",
        " or bool(found.st_mode & stat.S_IWGRP) and not _is_alone(found.st_gid)", "",
        _at("spec/test_frozen_files", "test_a_group_of_the_user_alone_is_the_user"),
    ),
)  # fmt: skip
