"""The rules of membership, each broken on purpose; see ``mutants``."""

from __future__ import annotations

from tests.raft.mutant import Mutant

MEMBERSHIP = [
    Mutant(
        "one half elects in a joint change",
        "quorum",
        "    if not configuration.outgoing:\n        return result\n",
        "    return result\n",
        "quorum",
    ),
    Mutant(
        "a configuration is in force once it is applied",
        "state",
        "        return self.configurations[-1][1]\n",
        "        known = [c for i, c in self.configurations if i <= self.handed]\n"
        "        return known[-1]\n",
        "reconfiguration",
    ),
    Mutant(
        "a change begins before the leader's own first commit",
        "reconfiguration",
        '    if state.commit < state.term_start:\n        return "this leader',
        '    if False:\n        return "this leader',
        "reconfiguration",
    ),
    Mutant(
        "a change begins while another is not committed",
        "reconfiguration",
        "    if index > state.commit:\n        return",
        "    if False:\n        return",
        "reconfiguration",
    ),
    Mutant(
        "a joint change is left before it is applied",
        "reconfiguration",
        "    if index > state.handed or state.transfer_target",
        "    if index > state.commit or state.transfer_target",
        "reconfiguration",
    ),
    Mutant(
        "nobody leaves a joint change by itself",
        "reconfiguration",
        "        if configuration.auto_leave:\n",
        "        if False:\n",
        "reconfiguration",
    ),
    Mutant(
        "a simple change touches two voters",
        "membership",
        "    if len(touched) > 1:\n",
        "    if len(touched) > 2:\n",
        "membership",
    ),
    Mutant(
        "a voter demoted in a joint change is a learner at once",
        "membership",
        "        if name in self.outgoing:\n            # It",
        "        if False:\n            # It",
        "membership",
    ),
    Mutant(
        "another disk may vote in a voter's place",
        "membership",
        "            if changed and before.votes(name) and after.votes(name):\n",
        "            if False:\n",
        "membership",
    ),
    Mutant(
        "a member campaigns with a committed, unapplied configuration",
        "election",
        "        and not state.handed < index <= state.commit\n",
        "",
        "reconfiguration",
    ),
    Mutant(
        "a member removed by an uncommitted change never stands",
        "election",
        "    if not voter and index > state.commit and len(state.configurations) > 1:\n",
        "    if False:\n",
        "removal",
    ),
    Mutant(
        "a removed member is not told",
        "tracking",
        "        state.leaving[peer] = (index, until_ns)\n",
        "        state.progress.pop(peer, None)\n",
        "removal",
    ),
    Mutant(
        "a removed leader stays in office",
        "reconfiguration",
        "        _retire(state)\n",
        "        pass\n",
        "removal",
    ),
    Mutant(
        "a learner refuses votes",
        "election",
        "    return not state.disqualified and not is_stranger(state, candidate)\n",
        "    return (\n"
        "        state.configuration.votes(state.id)\n"
        "        and not state.disqualified\n"
        "        and not is_stranger(state, candidate)\n"
        "    )\n",
        "learners",
    ),
    Mutant(
        "a learner is promoted before it has caught up",
        "reconfiguration",
        "        if not force and not is_caught_up(state, learner):\n",
        "        if False:\n",
        "learners",
    ),
    Mutant(
        "a new voter counts as if it had promised",
        "tracking",
        "    stranger = is_stranger(state, peer)\n    progress",
        "    promises.answered(state.now_ns)\n    stranger = is_stranger(state, peer)\n"
        "    progress",
        "learners",
    ),
    Mutant(
        "one zone is enough",
        "quorum",
        "    if required > 1:\n",
        "    if False:\n",
        "quorum",
    ),
    Mutant(
        "votes of another disk are counted",
        "election",
        "    if is_stranger(state, sender):\n        return  # It may have",
        "    if False:\n        return  # It may have",
        "identity",
    ),
    Mutant(
        "another disk gets votes",
        "election",
        "    return not state.disqualified and not is_stranger(state, candidate)\n",
        "    return not state.disqualified\n",
        "identity",
    ),
    Mutant(
        "a member votes with a disk that was not admitted",
        "election",
        "    return not state.disqualified and not is_stranger(state, candidate)\n",
        "    return not is_stranger(state, candidate)\n",
        "identity",
    ),
    Mutant(
        "acknowledgements of another disk are counted",
        "replication",
        " or session != progress.session or progress.stranger:",
        " or session != progress.session:",
        "identity",
    ),
    Mutant(
        "what a wiped member stored goes on counting",
        "tracking",
        "    if is_stranger(state, peer) or progress.stranger:\n",
        "    if False:\n",
        "identity",
    ),
    Mutant(
        "leadership goes to and fro between equals",
        "preference",
        "    return saved_ns >= MARGIN_NS and saved_ns * 4 >= own.round_trip_ns\n",
        "    return saved_ns >= 0\n",
        "preference",
    ),
    Mutant(
        "leadership is offered to who lags behind",
        "reconfiguration",
        "        and progress.match >= state.commit\n",
        "",
        "preference",
    ),
]
