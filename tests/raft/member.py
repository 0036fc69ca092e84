"""One member under a microscope: the test plays everybody else.

Time stands still unless the test moves it, and the disk answers at once unless ``sync`` is False.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TypeVar

from mcpcore.raft.core import Raft, Ready
from mcpcore.raft.doubt import Doubt
from mcpcore.raft.log import RaftLog
from mcpcore.raft.membership import Change
from mcpcore.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Message,
    PreVoteReply,
    VoteReply,
)
from mcpcore.raft.outcome import Event, MembershipNoticed, ReadAnswer, Write
from mcpcore.raft.reunion import ReunionSettings
from mcpcore.raft.settings import RaftSettings
from mcpcore.raft.snapshot_events import SnapshotEvent
from mcpcore.raft.types import (
    EMPTY_BLOCK,
    Block,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    LogPosition,
)
from tests.raft.cluster import MS, SETTINGS

Kind = TypeVar("Kind", bound=Message)
TIMEOUT_MS = SETTINGS.election_timeout_ns // MS


def entries(terms: Iterable[int], first: int = 1) -> tuple[Entry, ...]:
    """Commands whose content names their place: equal term and index, equal entry."""
    return tuple(
        Entry(term, index, EntryKind.COMMAND, b"%d.%d" % (term, index))
        for index, term in enumerate(terms, first)
    )


def append(
    term: int,
    prev: tuple[int, int] = (0, 0),
    terms: Iterable[int] = (),
    *,
    commit: int = 0,
    session: int = 1,
    sent_ns: int = 1,
) -> Append:
    """What a leader of ``term`` sends after ``prev`` (term, index); all else is usual."""
    block = entries(terms, prev[1] + 1)
    return Append(
        term,
        session,
        *prev,
        Block(block) if block else EMPTY_BLOCK,
        commit,
        sent_ns,
        SETTINGS.election_timeout_ns,
    )


def beat(term: int, *, commit: int = 0, session: int = 1, sent_ns: int = 1) -> Heartbeat:
    return Heartbeat(term, session, commit, 0, sent_ns, SETTINGS.election_timeout_ns)


def accepted(ask: Append) -> AppendReply:
    last = ask.prev_index + len(ask.block)
    return AppendReply(ask.term, ask.session, True, last, 0, 0, ask.sent_ns)


def refused(ask: Append, hint: tuple[int, int]) -> AppendReply:
    return AppendReply(ask.term, ask.session, False, ask.prev_index, *hint, ask.sent_ns)


def answered(ask: Heartbeat) -> HeartbeatReply:
    return HeartbeatReply(ask.term, ask.session, ask.round, ask.sent_ns)


class Member:
    """Member ``a`` of a group, with the log that ``terms`` spells out.

    ``fresh`` keeps the promise that every start behaves as if it had made; by default a test
    begins when it has run out.
    """

    def __init__(
        self,
        voters: str = "abc",
        *,
        terms: Iterable[int] = (),
        term: int | None = None,
        voted_for: str = "",
        settings: RaftSettings = SETTINGS,
        sync: bool = True,
        fresh: bool = False,
        seed: int = 0,
        base: tuple[int, int] = (0, 0),
        stateless: bool = False,
        configuration: Configuration | None = None,
        incarnation: str = "",
        doubt: Doubt | None = None,
        reunion: ReunionSettings | None = None,
    ) -> None:
        log = RaftLog(LogPosition(*base), entries(terms, base[1] + 1))
        if configuration is None:
            configuration = Configuration.of(voters)
        self.now_ns = 1_000 * MS
        self.sync = sync
        self.raft = Raft(
            "a",
            settings,
            random.Random(seed),
            configuration=configuration,
            hard_state=HardState(log.last.term if term is None else term, voted_for),
            log=log,
            now_ns=self.now_ns,
            incarnation=incarnation,
            doubt=doubt,
            stateless=stateless,
            reunion=reunion,
        )
        if not fresh:
            self.now_ns += settings.election_timeout_ns
        self.peers = sorted((configuration.voters | configuration.outgoing) - {"a"})
        self.said: list[tuple[str, Message]] = []
        self.pending: list[Write] = []
        self.applied: list[Entry] = []
        self.reads: list[ReadAnswer] = []
        self.events: list[Event] = []
        self.snapshots: list[SnapshotEvent] = []

    @property
    def state(self):
        return self.raft.state

    @property
    def last(self) -> LogPosition:
        return self.state.log.last

    @property
    def terms(self) -> list[int]:
        log = self.state.log
        return [entry.term for entry in log.entries(1, log.last_index)] if log.last_index else []

    def heard(self, kind: type[Kind], peer: str = "") -> list[Kind]:
        """What was said to ``peer`` (or anybody) by the latest action, of this kind."""
        return [m for to, m in self.said if isinstance(m, kind) and peer in ("", to)]

    # --- what happens ---

    def hears(self, sender: str, message: Message) -> list[tuple[str, Message]]:
        self.raft.step(sender, message, self.now_ns)
        return self.drain()

    def waits(self, ms: float, *, tick: bool = True) -> list[tuple[str, Message]]:
        self.now_ns += int(ms * MS)
        if tick and self.raft.deadline_ns() <= self.now_ns:
            self.raft.tick(self.now_ns)
        return self.drain()

    def times_out(self) -> list[tuple[str, Message]]:
        """The election deadline comes."""
        self.now_ns = max(self.now_ns, self.raft.deadline_ns())
        self.raft.tick(self.now_ns)
        return self.drain()

    def proposes(self, *commands: bytes) -> list[Entry]:
        made = [self.raft.propose(data, self.now_ns) for data in commands]
        self.drain()
        return made

    def changes(self, *wanted: Change, **how: bool) -> Entry:
        entry = self.raft.propose_change(wanted, self.now_ns, **how)
        self.drain()
        return entry

    def meets(self, peer: str, incarnation: str = "") -> list[tuple[str, Message]]:
        """A new connection to ``peer``, behind which is this disk."""
        self.raft.peer_connected(peer, self.now_ns, incarnation=incarnation)
        return self.drain()

    @property
    def configuration(self) -> str:
        return str(self.state.configuration)

    @property
    def notices(self) -> list[str]:
        """What people were told about members, in order."""
        return [f"{e.member}: {e.what}" for e in self.events if isinstance(e, MembershipNoticed)]

    def writes_finish(self, count: int | None = None) -> list[tuple[str, Message]]:
        count = len(self.pending) if count is None else count
        done, self.pending = self.pending[:count], self.pending[count:]
        for write in done:
            self.raft.written(write.seq, self.now_ns)
        return self.drain()

    def drain(self) -> list[tuple[str, Message]]:
        self.said = []
        while True:
            ready: Ready = self.raft.ready()
            self.raft.check()
            self.said += ready.messages
            self.applied += ready.committed
            self.reads += ready.reads
            self.events += ready.events
            self.snapshots += ready.snapshots
            if ready.write is not None:
                self.pending.append(ready.write)
            if self.sync and self.pending:
                for write in self.pending:
                    self.raft.written(write.seq, self.now_ns)
                self.pending = []
            elif not self.raft.has_more:
                return self.said

    # --- stories ---

    def campaigns(self) -> list[tuple[str, Message]]:
        """Time out and win the pre-vote: a candidate in the next term."""
        self.times_out()
        asked = self.state.term + 1
        for peer in self.peers:
            self.hears(peer, PreVoteReply(self.state.term, asked, True))
            if self.state.term == asked:
                break
        assert self.state.term == asked
        return self.said

    def leads(self) -> Member:
        """Win an election; the first appends are in ``said``."""
        if self.peers:
            self.campaigns()
        else:
            self.times_out()
        for peer in self.peers:
            if not self.raft.is_leader:
                self.hears(peer, VoteReply(self.state.term, True))
        assert self.raft.is_leader
        return self

    def all_accept(self, *peers: str) -> Member:
        """These (or all) members accept what was sent last, and what that sets free."""
        for _ in range(20):
            sent = [
                (to, m)
                for to, m in self.said
                if isinstance(m, Append) and (not peers or to in peers)
            ]
            if not sent:
                return self
            said: list[tuple[str, Message]] = []
            for to, m in sent:
                said += self.hears(to, accepted(m))
            self.said = said
        raise AssertionError("the leader never stops sending")
