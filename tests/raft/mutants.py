"""The rules that make Raft safe, each broken on purpose, and the test that notices.

``python -m tests.raft.mutants [NAME...]`` copies the package to a temporary directory, applies one
mutant at a time and runs the stated tests against it; if they stay green, it walks random seeds. It
prints who caught what, and fails if a mutant survives or no longer applies.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.raft.membership_mutants import MEMBERSHIP
from tests.raft.mutant import Mutant
from tests.raft.window_mutants import WINDOWS

ROOT = Path(__file__).resolve().parents[2]
WALK_SEEDS = 20


MUTANTS = [
    Mutant(
        "a lease counts from waking up",
        "reads",
        "left_ns = lease_until_ns(state) -",
        "left_ns = max(lease_until_ns(state), state.office_since_ns + 10**9) -",
        "quiescence",
    ),
    Mutant(
        "a follower sleeps without its leader's log",
        "quiescence",
        "ask.index == last == state.matched_index == state.commit == state.handed",
        "state.commit == state.handed == last",
        "quiescence",
    ),
    Mutant(
        "a follower that wakes up has promised nothing",
        "quiescence",
        "    patience.promise_until_ns = max(patience.promise_until_ns, heard_ns + timeout)\n",
        "",
        "quiescence",
    ),
    Mutant(
        "a leader that wakes up holds office from now",
        "quiescence",
        "state.office_since_ns = heard_ns",
        "state.office_since_ns = state.now_ns",
        "quiescence",
    ),
    Mutant(
        "a leader of an older term is left to sleep",
        "dispatch",
        "            state.reply(sender, Awake(state.term))  # it leads",
        "            pass  # it leads",
        "quiescence",
    ),
    Mutant(
        "a leader sleeps while a member lags",
        "quiescence",
        "progress is None or progress.match < last or progress.probing or progress.inflight",
        "progress is None",
        "quiescence",
    ),
    Mutant(
        "a vote leaves before it is durable",
        "election",
        "state.reply(sender, VoteReply(state.term, granted))",
        "state.send(sender, VoteReply(state.term, granted))",
        "durability",
    ),
    Mutant(
        "a candidate counts its own vote before it is durable",
        "election",
        "    state.votes = {}\n    state.reset_election_deadline()\n    reason",
        "    state.votes = {state.id: True}\n    state.reset_election_deadline()\n    reason",
        "durability",
    ),
    Mutant(
        "a vote is cast twice in a term",
        "election",
        'state.voted_for in ("", sender)',
        "True",
        "elections calm_elections",
    ),
    Mutant(
        "the up-to-date check is removed",
        "election",
        "        and (ask.transfer or not promised(state))\n        and _may_help(state, sender)\n"
        "        and LogPosition(ask.last_term, ask.last_index) >= state.log.last\n",
        "        and (ask.transfer or not promised(state))\n        and _may_help(state, sender)\n",
        "elections calm_elections",
    ),
    Mutant(
        "the up-to-date check compares lengths first",
        "election",
        "        and (ask.transfer or not promised(state))\n        and _may_help(state, sender)\n"
        "        and LogPosition(ask.last_term, ask.last_index) >= state.log.last\n",
        "        and (ask.transfer or not promised(state))\n        and _may_help(state, sender)\n"
        "        and (ask.last_index, ask.last_term) >= (state.log.last[1], state.log.last[0])\n",
        "elections calm_elections",
    ),
    Mutant(
        "stickiness is removed from votes",
        "election",
        "if promised(state) and not ask.transfer:",
        "if False:",
        "elections calm_elections",
    ),
    Mutant(
        "stickiness is removed from votes of a term learned meanwhile",
        "election",
        "        and (ask.transfer or not promised(state))\n",
        "",
        "elections calm_elections",
    ),
    Mutant(
        "stickiness is removed from pre-votes",
        "election",
        "        and not promised(state)\n",
        "",
        "elections calm_elections",
    ),
    Mutant(
        "a start forgets the promise made before it",
        "state",
        "newborn=newborn)",
        "newborn=True)",
        "elections calm_elections",
    ),
    Mutant(
        "a member campaigns before its promise has run out",
        "windows",
        "return max(now_ns + window_ns + randrange(width_ns), self.promise_until_ns)",
        "return now_ns + window_ns + randrange(width_ns)",
        "windows",
    ),
    Mutant(
        "pre-candidates hold on to a dead leader",
        "election",
        "    if state.is_leader:\n        return office_until_ns",
        "    if state.leader and not state.is_leader:\n        return True\n"
        "    if state.is_leader:\n        return office_until_ns",
        "elections calm_elections",
    ),
    Mutant(
        "a pre-vote of a member in an older term is dropped",
        "dispatch",
        "frozenset({PreVote, PreVoteReply, Vote, ReadIndex, Recall, RecallReply})",
        "frozenset({PreVote, Vote, ReadIndex})",
        "elections calm_elections",
    ),
    Mutant(
        "a quorum is one less",
        "quorum",
        "return members // 2 + 1",
        "return (members + 1) // 2",
        "quorum",
    ),
    Mutant(
        "a quorum is one more",
        "quorum",
        "return members // 2 + 1",
        "return members // 2 + 2 if members > 2 else members",
        "quorum",
    ),
    Mutant(
        "one half decides a joint change",
        "quorum",
        "        value = min(value, majority_value(configuration.outgoing, value_of))\n",
        "        pass\n",
        "quorum",
    ),
    Mutant(
        "what a new leader truncates is dropped",
        "state",
        "self.custody.truncated(self.log.entries(index, self.log.last_index), self.leader)",
        "pass",
        "custody",
    ),
    Mutant(
        "what a snapshot overwrites is dropped",
        "snapshots",
        "    state.custody.replaced(state.log, position, state.commit, state.leader)\n",
        "",
        "custody",
    ),
    Mutant(
        "a snapshot is taken to contain whatever stands before its end",
        "custody",
        "kept = max(kept, meet.index)",
        "kept = max(kept, position.index)",
        "custody",
    ),
    Mutant(
        "a start that replaces the log hands nothing over",
        "recovery",
        "dropped=custody.hand_over(),",
        "dropped=(),",
        "custody",
    ),
    Mutant(
        "a group waits for an operator",
        "reuniting",
        "    for peer in held:\n        state.send(peer, ReunionNeeded",
        "    for peer in held[:0]:\n        state.send(peer, ReunionNeeded",
        "reuniting",
    ),
    Mutant(
        "a member that is needed goes on waiting",
        "reuniting",
        "    if held is not None:\n        reason",
        "    if held is not None and state.is_leader:\n        reason",
        "reuniting",
    ),
    Mutant(
        "an answer is never used up",
        "reunion_guard",
        "            self._agreed, self._until = None, 0\n",
        "",
        "reuniting",
    ),
    Mutant(
        "a snapshot does not wait for an operator",
        "snapshots",
        "        if refuses_snapshot(state, sender, offer):\n            return\n",
        "",
        "reuniting",
    ),
    *MEMBERSHIP,
    *WINDOWS,
    Mutant(
        "check-quorum is removed",
        "commitment",
        "if state.now_ns >= office_until_ns(state):",
        "if False:",
        "elections calm_elections",
    ),
    Mutant(
        "a promise counts from when the answer came",
        "replication",
        "progress.promises.answered(sent_ns)",
        "progress.promises.answered(state.now_ns)",
        "reads",
    ),
    Mutant(
        "entries of older terms are committed by counting",
        "commitment",
        "if index > state.commit and state.log.term_at(index) == state.term:",
        "if index > state.commit:",
        "commitment",
    ),
    Mutant(
        "a leader counts entries that its own disk does not hold yet",
        "commitment",
        "state.progress, state.id, state.durable_index\n",
        "state.progress, state.id, state.log.last_index\n",
        "durability",
    ),
    Mutant(
        "a follower acknowledges before its disk does",
        "state",
        "            and self.durable_index >= self.log.last_index\n",
        "",
        "durability",
    ),
    Mutant(
        "a late sync of dropped entries counts for the new ones",
        "state",
        "            write.last_index = min(write.last_index, index - 1)\n",
        "            pass\n",
        "durability",
    ),
    Mutant(
        "the durable index is not lowered by a truncation",
        "state",
        "        self.durable_index = min(self.durable_index, index - 1)\n",
        "",
        "durability",
    ),
    Mutant(
        "an append truncates entries that matched",
        "replication",
        "        if ours == entry.term:\n            continue\n",
        "        if ours == entry.term and position:\n            continue\n",
        "replication",
    ),
    Mutant(
        "the consistency check is removed",
        "replication",
        "    if known != ask.prev_term:\n",
        "    if known is None:\n",
        "replication",
    ),
    Mutant(
        "the commit index is followed beyond what is known to match",
        "commitment",
        "min(commit, state.matched_index)",
        "min(commit, state.log.last_index)",
        "commitment",
    ),
    Mutant(
        "what matched an older leader counts for the next",
        "election",
        "        state.matched_index = state.commit\n    was_leader",
        "        pass\n    was_leader",
        "commitment",
    ),
    Mutant(
        "an answer of an older session counts",
        "replication",
        " or session != progress.session or progress.stranger:",
        " or progress.stranger:",
        "replication",
    ),
    Mutant(
        "an answer of an older term counts",
        "dispatch",
        "frozenset({PreVote, PreVoteReply, Vote, ReadIndex, Recall, RecallReply})",
        "frozenset({PreVote, PreVoteReply, Vote, ReadIndex, Recall, RecallReply, AppendReply, "
        "HeartbeatReply})",
        "replication commitment",
    ),
    Mutant(
        "the window in messages is ignored",
        "replication",
        "                and len(progress.inflight) < limit\n",
        "",
        "replication",
    ),
    Mutant(
        "the window in bytes is ignored",
        "replication",
        "                and progress.inflight_bytes < state.settings.max_inflight_bytes\n",
        "",
        "replication",
    ),
    Mutant(
        "a refusal names nothing better than the index before",
        "replication",
        "    meet = state.log.last_position_at_most(answer.hint_index, answer.hint_term)\n",
        "    meet = state.log.last_position_at_most(answer.at_index - 1, state.term)\n",
        "replication commitment",
    ),
    Mutant(
        "the lease forgets the drift",
        "settings",
        "return self.election_timeout_ns * (1_000_000 - 2 * self.drift_ppm) // 1_000_000",
        "return self.election_timeout_ns",
        "settings reads",
    ),
    Mutant(
        "the lease survives the offer of leadership",
        "transfer",
        "        state.lease_void = True\n",
        "",
        "reads",
    ),
    Mutant(
        "a lease is given while leadership is being handed over",
        "reads",
        "    if state.transfer_target:\n",
        "    if False:\n",
        "reads",
    ),
    Mutant(
        "a lease is given before the first commit of the term",
        "reads",
        "    if state.commit < state.term_start:\n        raise",
        "    if False:\n        raise",
        "reads",
    ),
    Mutant(
        "a read is confirmed before the first commit of the term",
        "reads",
        "if not waiting or not state.is_leader or state.commit < state.term_start:",
        "if not waiting or not state.is_leader:",
        "reads",
    ),
    Mutant(
        "a read joins a round that has already left",
        "reads",
        "    if state.read_round == state.read_round_sent:\n        state.read_round += 1\n",
        "    state.read_round = max(state.read_round, 1)\n",
        "reads",
    ),
    Mutant(
        "a read is confirmed by anybody's old round",
        "reads",
        "while waiting and waiting[0][0] <= done:",
        "while waiting and waiting[0][0] <= done + 1:",
        "reads",
    ),
    Mutant(
        "a lost forwarded read waits for ever",
        "core",
        "due_ns = min(state.election_deadline_ns, reads.forwarded_deadline_ns(state))",
        "due_ns = state.election_deadline_ns",
        "reads",
    ),
    Mutant(
        "any member may offer leadership",
        "transfer",
        "if offer.term == state.term and sender == state.leader:",
        "if offer.term == state.term:",
        "transfer",
    ),
    Mutant(
        "the offer does not wait for the target's log",
        "transfer",
        "    if state.progress[target].match == state.log.last_index:\n",
        "    if True:\n",
        "transfer",
    ),
    Mutant(
        "a stalled disk keeps its leader",
        "commitment",
        "    elif state.disk_stalled():\n",
        "    elif False:\n",
        "durability",
    ),
    Mutant(
        "a member with a stalled disk campaigns",
        "election",
        " and not state.disk_stalled()\n",
        "\n",
        "durability",
    ),
    Mutant(
        "what a new leader inherits weighs nothing",
        "election",
        "state.uncommitted_bytes = state.log.size_bytes(state.handed + 1, state.term_start)",
        "state.uncommitted_bytes = 0",
        "replication",
    ),
    Mutant(
        "a follower that refuses does not reset its election window",
        "replication",
        "    keep_promise(state, sender, ask.promise_ns)\n    ask_again(state, sender)\n",
        "    if state.log.term_at(ask.prev_index) == ask.prev_term:\n"
        "        keep_promise(state, sender, ask.promise_ns)\n    ask_again(state, sender)\n",
        "elections calm_elections",
    ),
    Mutant(
        "a member in doubt votes",
        "election",
        "        and state.doubt is None  # we may have acknowledged more than our log shows\n",
        "",
        "doubt",
    ),
    Mutant(
        "a member in doubt stands for election",
        "election",
        "        and state.doubt is None  # it could lead without a committed entry\n",
        "",
        "doubt",
    ),
    Mutant(
        "doubt ends before what came back is durable",
        "recall",
        "    sure = min(max(state.matched_index, state.commit), state.durable_index)\n"
        "    if doubt.mended and state.durable_index >= fact.until:\n",
        "    sure = max(state.matched_index, state.commit)\n    if doubt.mended:\n",
        "doubt",
    ),
    Mutant(
        "a hole is filled though its ends do not meet",
        "recall",
        "    if answer.prev_term != log.last.term:\n",
        "    if False:\n",
        "doubt",
    ),
    Mutant(
        "a log answers for an anchor that it does not hold",
        "recall",
        "prev_term is not None and log.term_at(anchor) == ask.anchor_term",
        "prev_term is not None and log.term_at(anchor) is not None",
        "doubt",
    ),
    Mutant(
        "doubt ends with what no leader vouched for",
        "recall",
        "min(max(state.matched_index, state.commit), state.durable_index)",
        "state.durable_index",
        "doubt",
    ),
    Mutant(
        "who has forgotten its vote answers",
        "dispatch",
        "    if state.doubt is not None and state.doubt.fact.forgotten:\n",
        "    if False:\n",
        "doubt",
    ),
    Mutant(
        "a leader goes on believing what a member has lost",
        "recall",
        "    if progress is not None and progress.match >= ask.first:\n",
        "    if progress is None:\n",
        "doubt",
    ),
    Mutant(
        "what was not applied is compacted",
        "snapshots",
        'assert snapshot_index <= state.handed, "only what was applied may be compacted"',
        "pass",
        "snapshots",
    ),
    Mutant(
        "the answer leaves before the log is replaced",
        "snapshots",
        "    state.durable_index = min(state.durable_index, before)\n",
        "    state.durable_index = position.index\n",
        "snapshots",
    ),
    Mutant(
        "an installation does not keep the election timer calm",
        "snapshots",
        "    keep_promise(state, sender, chunk.promise_ns)\n",
        "",
        "snapshots",
    ),
    Mutant(
        "a snapshot replaces a log that agrees with it",
        "snapshots",
        "        if matches or position.index <= state.commit:\n",
        "        if position.index < state.commit:\n",
        "snapshots",
    ),
    Mutant(
        "an installed snapshot leaves the old membership in force",
        "snapshots",
        "    state.configurations = [(position.index, configuration)]\n",
        "",
        "snapshots",
    ),
    Mutant(
        "compaction forgets the membership in force",
        "snapshots",
        "    while len(state.configurations) > 1 and state.configurations[1][0] <= index:\n",
        "    while len(state.configurations) > 1:\n",
        "snapshots",
    ),
    Mutant(
        "the log is purged to the tip while a member is behind",
        "snapshots",
        "        index = snapshot_index - trailing\n",
        "        index = snapshot_index\n",
        "snapshots",
    ),
    Mutant(
        "a snapshot that takes long is begun again",
        "replication",
        "        if progress.awaits_snapshot:\n            continue",
        "        if False:\n            continue",
        "snapshots",
    ),
    Mutant(
        "a new connection alone asks for a snapshot",
        "replication",
        "                progress.next = max(progress.next, state.log.base.index + 1)\n",
        "                if progress.next <= state.log.base.index:\n"
        "                    need_snapshot(state, peer, progress)\n"
        "                    continue\n",
        "snapshots",
    ),
    Mutant(
        "a snapshot that ends before the log begins is believed at the start",
        "recovery",
        "    if snapshot is None or snapshot[0].index < log.base.index:\n",
        "    if snapshot is None:\n",
        "snapshots",
    ),
    Mutant(
        "a vote is forgotten when an installation is finished after a crash",
        "recovery",
        "    if hard_state.term < position.term:\n",
        "    if hard_state.term <= position.term:\n",
        "snapshots",
    ),
    Mutant(
        "a group sleeps while a snapshot is on its way",
        "quiescence",
        "        if progress.snapshot_index:\n",
        "        if False:\n",
        "snapshots",
    ),
]


def hunt(mutant: Mutant, copy: Path) -> str:
    """Who catches it, or an empty string."""
    path = copy / "mcpcore" / "raft" / f"{mutant.module}.py"
    original = path.read_text()
    if original.count(mutant.old) != 1:
        raise SystemExit(f"{mutant.name!r} no longer applies: {mutant.old!r} in {mutant.module}.py")
    path.write_text(original.replace(mutant.old, mutant.new))
    try:
        files = [f"tests/raft/test_{name}.py" for name in mutant.tests.split()]
        code, said = run(copy, "pytest", "-x", "-q", "-p", "no:cacheprovider", *files)
        failed = re.search(r"^FAILED \S+::(\S+)", said, re.MULTILINE)
        if code == 1 and failed:
            return failed[1]
        if code > 1:
            raise SystemExit(f"{mutant.name!r}: the tests did not run\n{said}")
        for seed in range(WALK_SEEDS):
            if run(copy, "tests.raft.test_seeded_schedules", str(seed))[0]:
                return f"walk {seed}, after {seed + 1} seeds"
        return ""
    finally:
        path.write_text(original)


def run(copy: Path, module: str, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-B", "-m", module, *arguments],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy), "HYPOTHESIS_STORAGE_DIRECTORY": str(copy)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    return done.returncode, done.stdout + done.stderr


def main(names: list[str]) -> int:
    chosen = [m for m in MUTANTS if not names or any(name in m.name for name in names)]
    survivors = []
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory)
        for part in ("mcpcore", "tests"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        for mutant in chosen:
            caught = hunt(mutant, copy)
            if not caught:
                survivors.append(mutant.name)
            sys.stdout.write(f"{mutant.name}\n    {caught or 'SURVIVED'}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(chosen)} mutants, {len(survivors)} survived\n")
    return 1 if survivors or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
