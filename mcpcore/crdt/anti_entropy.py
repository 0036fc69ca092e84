"""Keeping replicas equal: what to send to whom, and what to do with what comes. Pure.

This module exists so that the whole protocol can run in a test, in the simulator and over real
connections without a change: bytes in, bytes out, time as a number. It must never open, wait, read
a clock or draw a random number.

Four ways to the same state, from cheap to dear:

1. Changes travel as delta groups, never back to where they came from, stripped of what the receiver
   has: on arrival only what was new is kept and passed on, and what the peer itself sent lately is
   taken off (BP and RR of Enes et al., ICDE 2019; without them deltas save nothing in a mesh).
2. Now and then a digest: the causal context and a fingerprint. Equal digests settle everything.
3. Where they differ: what the peer's context has not seen; and, when contexts agree, a search by
   ranges of keys (:mod:`mcpcore.crdt.repair`).
4. The full state goes to a peer that has nothing.

All bytes to a peer pass its token bucket. Every buffer is bounded, and what is dropped is found
again by the next digest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from mcpcore.crdt.budget import Budget, TokenBucket
from mcpcore.crdt.buffer import DeltaBuffer
from mcpcore.crdt.causal import Causal
from mcpcore.crdt.cells import Cells
from mcpcore.crdt.context import CausalContext, check_replica
from mcpcore.crdt.guard import Authorise, anybody, inspect
from mcpcore.crdt.messages import (
    Ack,
    Delta,
    Digest,
    Message,
    Part,
    Probe,
    decode_message,
    encode_message,
)
from mcpcore.crdt.repair import Span, Survey, compare
from mcpcore.crdt.stability import collect, stable_context
from mcpcore.errors import DeltaRefused, InvalidInput

State: TypeAlias = Cells | Causal
_HEADER_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one replica's anti-entropy.

    Args:
        message_bytes: how large our messages get, unless one entry alone is larger.
        receive_bytes_max: larger messages are refused unread.
        buffer_bytes_max: the delta buffer, for all peers together.
        outbox_messages_max: answers, and parts of repairs, that wait for a peer's budget. Beyond
            it the oldest are dropped, and the next digest makes up for them.
        digest_every_ns: how often digests are sent.
        retry_after_ns: when deltas without an answer are sent again.
        events_ahead_max: how far one delta may advance any replica's numbers.
        ahead_ns_max: how far timestamps may lie ahead of the wall clock that ``receive`` is told.
    """

    message_bytes: int = 16 * 1024
    receive_bytes_max: int = 4 * 1024 * 1024
    buffer_bytes_max: int = 4 * 1024 * 1024
    outbox_messages_max: int = 1024
    digest_every_ns: int = 5_000_000_000
    retry_after_ns: int = 1_000_000_000
    events_ahead_max: int = 1 << 40
    ahead_ns_max: int = 500_000_000
    budget: Budget = field(default_factory=Budget)


@dataclass(frozen=True, slots=True)
class Send:
    """Please send these bytes to this peer."""

    peer: str
    data: bytes


class _Peer:
    """What we know about one peer."""

    __slots__ = (
        "acked",
        "answers",
        "bucket",
        "bulk",
        "digest_ns",
        "heard",
        "repairs",
        "sent",
        "sent_ns",
        "told",
    )

    def __init__(self, newest: int, heard: State, budget: Budget, now_ns: int) -> None:
        self.acked = newest
        self.sent = newest
        self.sent_ns = now_ns
        self.digest_ns = now_ns
        self.heard = heard
        self.told: CausalContext | None = None
        self.bucket = TokenBucket(budget, now_ns)
        self.answers: deque[bytes] = deque()
        self.repairs: deque[bytes] = deque()
        self.bulk = False


class AntiEntropy:
    """One replica's side of the protocol, for one state.

    Args:
        replica: our replica id, as the types' mutators are given it.
        state: our state; it is changed in place. Share it with the views on it.
        peers: names of the other members, as the transport knows them.
        session: a number that differs at each start, so that answers to an earlier life are known.
        authorise: who may say what; see :mod:`mcpcore.crdt.guard`.
    """

    def __init__(
        self,
        replica: str,
        state: State,
        *,
        peers: Iterable[str] = (),
        session: int = 0,
        now_ns: int = 0,
        limits: Limits | None = None,
        authorise: Authorise = anybody,
    ) -> None:
        self.replica = check_replica(replica)
        self.state: State = state
        self.session = session
        self.limits = Limits() if limits is None else limits
        self._authorise = authorise
        self._buffer: DeltaBuffer[State] = DeltaBuffer(self.limits.buffer_bytes_max)
        self._peers: dict[str, _Peer] = {}
        self._now_ns = now_ns
        self._surveyed: Survey | None = None
        self.set_peers(peers)

    @property
    def peers(self) -> list[str]:
        """The other members."""
        return sorted(self._peers)

    @property
    def buffered_bytes(self) -> int:
        """How much the delta buffer holds."""
        return self._buffer.size_bytes

    def set_peers(self, peers: Iterable[str]) -> None:
        """Take over the membership. What is known of peers that stay is kept."""
        names = sorted(set(peers))
        fresh = type(self.state).bottom
        self._peers = {
            name: self._peers.get(name)
            or _Peer(self._buffer.newest, fresh(), self.limits.budget, self._now_ns)
            for name in names
        }

    # --- changes of our own ---------------------------------------------------------------------

    def changed(self, delta: State) -> None:
        """Take note of a delta that a mutator of ours returned. Every one must come here."""
        self._keep(delta, "")

    def collect(self) -> int:
        """Drop causally stable residue. Returns how many entries went.

        Every member must have told its context since; an absent member stops this, and nothing is
        lost by waiting.
        """
        if not isinstance(self.state, Causal):
            return 0
        told = {name: p.told for name, p in self._peers.items() if p.told is not None}
        delta = collect(self.state, stable_context(self.state.context, self._peers, told))
        self.changed(delta)
        return len(delta.context)

    def _keep(self, delta: State, origin: str) -> None:
        if not delta.is_bottom():
            self._surveyed = None
            if not self._peers:
                return  # nobody to send to; whoever joins later begins with a digest
            for piece in delta.split(self.limits.message_bytes):
                size = len(encode_message(Delta(self.session, 1, 1, piece)))
                self._buffer.add(piece, origin, size)

    # --- what comes -----------------------------------------------------------------------------

    def receive(
        self, peer: str, data: bytes, now_ns: int, *, wall_ns: int | None = None
    ) -> State | None:
        """Take a peer's message. Returns what was new in it, already joined; None if nothing.

        Args:
            wall_ns: our wall clock; where given, timestamps too far ahead of it are refused.

        Raises:
            InvalidInput: not a message of ours; the state is as it was.
            DeltaRefused: a rule forbids it; the state is as it was.
        """
        known = self._peers.get(peer)
        if known is None:
            raise DeltaRefused(peer, "it is not a member")
        self._now_ns = max(self._now_ns, now_ns)
        message = decode_message(data, size_bytes_max=self.limits.receive_bytes_max)
        match message:
            case Ack():
                self._acknowledged(known, message)
            case Digest():
                self._compare(known, message)
            case Probe(spans):
                self._search(known, spans)
            case Delta(session, first, last, state):
                news = self._take(peer, known, state, wall_ns)
                self._post(known, Ack(session, first, last))
                return news
            case Part(low, high, answer, state):
                lacking = _delta(self.state.part(low, high), state) if answer else None
                news = self._take(peer, known, state, wall_ns)
                if lacking is not None and not lacking.is_bottom():
                    self._post(known, Part(low, high, False, lacking))
                return news
        return None

    def _take(self, peer: str, known: _Peer, state: State, wall_ns: int | None) -> State | None:
        latest_ns = None if wall_ns is None else wall_ns + self.limits.ahead_ns_max
        inspect(
            peer,
            state,
            ours=self.state,
            replica=self.replica,
            events_ahead_max=self.limits.events_ahead_max,
            latest_ns=latest_ns,
            authorise=self._authorise,
        )
        _join(known.heard, state)
        news = _delta(state, self.state)
        if news.is_bottom():
            return None
        _join(self.state, news)
        self._keep(news, peer)
        return news

    def _acknowledged(self, known: _Peer, ack: Ack) -> None:
        if ack.session == self.session and ack.first <= known.acked + 1:
            known.acked = max(known.acked, min(ack.last, known.sent))
            self._buffer.forget(min(p.acked for p in self._peers.values()))

    def _compare(self, known: _Peer, digest: Digest) -> None:
        known.told = digest.context
        if digest.answer:
            # One conversation serves both: we answer, and need not ask ourselves for a while.
            known.digest_ns = self._now_ns + self.limits.digest_every_ns
            self._post(known, self._digest(answer=False))
        mine = self._survey().span()
        if mine == digest.whole:
            known.acked = known.sent = self._buffer.newest
            return
        if known.repairs:
            return  # a repair is on its way already, and the next digest will judge it
        if digest.whole.count == 0 and not digest.context:
            self._send_parts(known, self.state)
        elif known.acked < self._buffer.newest and known.acked + 1 >= self._buffer.oldest:
            return  # deltas are on their way and may be all that is missing
        elif isinstance(self.state, Causal):
            news = self.state.unseen_by(digest.context)
            if not news.is_bottom():
                self._send_parts(known, news)
            elif digest.answer and self.state.context == digest.context:
                self._post(known, Probe((mine,)))
        elif digest.answer:
            self._post(known, Probe((mine,)))

    def _search(self, known: _Peer, spans: tuple[Span, ...]) -> None:
        if known.bulk:
            return  # what it asks for is probably among what is on its way
        send, ask = compare(self._survey(), spans)
        for span in send:
            part = self.state.part(span.low, span.high)
            self._post(known, Part(span.low, span.high, True, part))
        for i in range(0, len(ask), 64):
            self._post(known, Probe(tuple(ask[i : i + 64])))

    def _send_parts(self, known: _Peer, state: State) -> None:
        known.bulk = True
        for piece in state.split(self.limits.message_bytes):
            self._post(known, Part(b"", None, False, piece))

    # --- what goes ------------------------------------------------------------------------------

    def poll(self, now_ns: int) -> list[Send]:
        """What may leave now, in order. Call it at :attr:`deadline_ns` and after every change."""
        self._now_ns = max(self._now_ns, now_ns)
        sends: list[Send] = []
        for name, peer in self._peers.items():
            if now_ns >= peer.digest_ns:
                peer.digest_ns = now_ns + self.limits.digest_every_ns
                self._post(peer, self._digest(answer=True))
            self._poll_peer(name, peer, now_ns, sends)
        return sends

    def _poll_peer(self, name: str, peer: _Peer, now_ns: int, sends: list[Send]) -> None:
        """Answers first, then changes, then repairs: what is short and new does not wait."""
        self._drain(name, peer, peer.answers, sends)
        if not peer.answers and self._poll_deltas(name, peer, now_ns, sends):
            self._drain(name, peer, peer.repairs, sends)
            peer.bulk = peer.bulk and bool(peer.repairs)

    def _drain(self, name: str, peer: _Peer, queue: deque[bytes], sends: list[Send]) -> None:
        while queue and peer.bucket.take(len(queue[0]), self._now_ns):
            sends.append(Send(name, queue.popleft()))

    def _poll_deltas(self, name: str, peer: _Peer, now_ns: int, sends: list[Send]) -> bool:
        """Send what the buffer has for a peer. Returns whether all of it could go."""
        if peer.acked + 1 < self._buffer.oldest:
            # It waits for deltas that had to go: let comparison find what it lacks.
            peer.acked = peer.sent = self._buffer.newest
            peer.digest_ns = now_ns
            return True
        if peer.sent > peer.acked and now_ns >= peer.sent_ns + self.limits.retry_after_ns:
            peer.sent = peer.acked
        while peer.sent < self._buffer.newest:
            room = self.limits.message_bytes
            last, group = self._buffer.group(name, peer.sent, room)
            first = peer.sent + 1
            if group is not None:
                group = _delta(group, peer.heard)
            if group is None or group.is_bottom():
                peer.sent = last
                if peer.acked + 1 == first:
                    peer.acked = last
                continue
            data = encode_message(Delta(self.session, first, last, group))
            if not peer.bucket.take(len(data), now_ns):
                return False
            sends.append(Send(name, data))
            peer.sent, peer.sent_ns = last, now_ns
        peer.heard = type(self.state).bottom()
        self._buffer.forget(min(p.acked for p in self._peers.values()))
        return True

    @property
    def deadline_ns(self) -> int | None:
        """When :meth:`poll` has something to do at the latest; None without peers."""
        return min((self._due_ns(peer) for peer in self._peers.values()), default=None)

    def _due_ns(self, peer: _Peer) -> int:
        if peer.answers:
            return peer.bucket.ready_ns(len(peer.answers[0]), self._now_ns)
        if peer.sent < self._buffer.newest:
            return peer.bucket.ready_ns(self.limits.message_bytes, self._now_ns)
        if peer.repairs:
            return peer.bucket.ready_ns(len(peer.repairs[0]), self._now_ns)
        if peer.acked < peer.sent:
            return min(peer.digest_ns, peer.sent_ns + self.limits.retry_after_ns)
        return peer.digest_ns

    def _survey(self) -> Survey:
        """Listing all atoms is dear, so one list serves until the next change."""
        if self._surveyed is None:
            self._surveyed = Survey(self.state)
        return self._surveyed

    def _digest(self, *, answer: bool) -> Digest:
        context = self.state.context if isinstance(self.state, Causal) else CausalContext()
        return Digest(context, self._survey().span(), answer)

    def _post(self, peer: _Peer, message: Message) -> None:
        queue = peer.repairs if isinstance(message, Part) else peer.answers
        queue.append(encode_message(message))
        if len(queue) > self.limits.outbox_messages_max:
            queue.popleft()


def _same(a: State, b: State) -> None:
    if type(a) is not type(b):
        raise InvalidInput(
            f"a {type(b).__name__} cannot be joined to a {type(a).__name__}",
            where="delta",
            remedy="Both sides must replicate the same document",
        )


def _join(a: State, b: State) -> None:
    _same(a, b)
    a.join(b)  # type: ignore[arg-type]


def _delta(a: State, b: State) -> State:
    _same(a, b)
    return a.delta(b)  # type: ignore[arg-type]
