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
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from mcpcore.crdt.budget import TokenBucket
from mcpcore.crdt.buffer import DeltaBuffer
from mcpcore.crdt.causal import Causal
from mcpcore.crdt.cells import Cells
from mcpcore.crdt.context import CausalContext, check_replica
from mcpcore.crdt.guard import Authorise, anybody, inspect
from mcpcore.crdt.limits import Limits
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
        "met",
        "repairs",
        "sent",
        "sent_ns",
        "told",
        "up",
    )

    def __init__(self, newest: int, heard: State, bucket: TokenBucket, now_ns: int) -> None:
        self.acked = newest
        self.sent = newest
        self.sent_ns = now_ns
        self.digest_ns = now_ns
        self.heard = heard
        self.told: CausalContext | None = None
        self.bucket = bucket
        self.up = True
        self.met = True
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
        bucket: gives a peer's token bucket; for several states that share one budget.
        erases: whether messages take things out. Without this each claims no more than it brings,
            and what is gone here is gone by agreement elsewhere (see ``mcpcore.policy``).
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
        bucket: Callable[[str], TokenBucket] | None = None,
        erases: bool = True,
    ) -> None:
        self.replica = check_replica(replica)
        self.state: State = state
        self.session = session
        self.limits = Limits() if limits is None else limits
        self._authorise = authorise
        self._bucket = bucket or (lambda peer: TokenBucket(self.limits.budget, self._now_ns))
        self._erases = erases
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
            or _Peer(self._buffer.newest, fresh(), self._bucket(name), self._now_ns)
            for name in names
        }

    def connected(self, peer: str, now_ns: int) -> None:
        """A peer can be reached again: begin with a digest. Changes follow once it has answered,
        so that one that does not know this protocol is told nothing but digests.
        """
        self._now_ns = max(self._now_ns, now_ns)
        known = self._peers.get(peer)
        if known is not None:
            known.up, known.met, known.bulk = True, False, False
            known.told = None  # whoever comes back may have lost its memory meanwhile
            known.sent, known.digest_ns = known.acked, now_ns
            known.answers.clear()
            known.repairs.clear()

    def disconnected(self, peer: str) -> None:
        """A peer cannot be reached: spend nothing on it until :meth:`connected`."""
        known = self._peers.get(peer)
        if known is not None:
            known.up = False

    @property
    def told(self) -> Mapping[str, CausalContext]:
        """What each peer has last said to have seen; those that never did are left out."""
        return {name: p.told for name, p in self._peers.items() if p.told is not None}

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
        stable = stable_context(self.state.context, self._peers, self.told)
        delta = collect(self.state, stable)
        self.changed(delta)
        return len(delta.context)

    def reshaped(self) -> None:
        """The state was changed beside the protocol, the same way at all members."""
        self._surveyed = None

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
        known.met = True
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
                lacking = None
                if answer:
                    lacking = self._sayable(_delta(self.state.part(low, high), state))
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

    def _sayable(self, state: State) -> State:
        """What of a state may be said: all of it, or no more events than it brings."""
        if self._erases or not isinstance(state, Causal):
            return state
        return Causal(state.entries, CausalContext(state.entries))

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
            self._send_parts(known, self._sayable(self.state))
        elif known.acked < self._buffer.newest and known.acked + 1 >= self._buffer.oldest:
            return  # deltas are on their way and may be all that is missing
        elif isinstance(self.state, Causal):
            news = self._sayable(self.state.unseen_by(digest.context))
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
            part = self._sayable(self.state.part(span.low, span.high))
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
            if not peer.up:
                continue
            if now_ns >= peer.digest_ns:
                peer.digest_ns = now_ns + self.limits.digest_every_ns
                self._post(peer, self._digest(answer=True))
            self._poll_peer(name, peer, now_ns, sends)
        return sends

    def _poll_peer(self, name: str, peer: _Peer, now_ns: int, sends: list[Send]) -> None:
        """Answers first, then changes, then repairs: what is short and new does not wait."""
        self._drain(name, peer, peer.answers, sends)
        if peer.met and not peer.answers and self._poll_deltas(name, peer, now_ns, sends):
            self._drain(name, peer, peer.repairs, sends)
            peer.bulk = peer.bulk and bool(peer.repairs)

    def _drain(self, name: str, peer: _Peer, queue: deque[bytes], sends: list[Send]) -> None:
        while queue and peer.bucket.take(self._cost(queue[0]), self._now_ns):
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
            if not peer.bucket.take(self._cost(data), now_ns):
                return False
            sends.append(Send(name, data))
            peer.sent, peer.sent_ns = last, now_ns
        peer.heard = type(self.state).bottom()
        self._buffer.forget(min(p.acked for p in self._peers.values()))
        return True

    def _cost(self, data: bytes) -> int:
        return len(data) + self.limits.overhead_bytes

    @property
    def deadline_ns(self) -> int | None:
        """When :meth:`poll` has something to do at the latest; None if nobody can be reached."""
        return min((self._due_ns(peer) for peer in self._peers.values() if peer.up), default=None)

    def _due_ns(self, peer: _Peer) -> int:
        if peer.answers:
            return peer.bucket.ready_ns(self._cost(peer.answers[0]), self._now_ns)
        if not peer.met:
            return peer.digest_ns
        if peer.sent < self._buffer.newest:
            return peer.bucket.ready_ns(self.limits.message_bytes, self._now_ns)
        if peer.repairs:
            return peer.bucket.ready_ns(self._cost(peer.repairs[0]), self._now_ns)
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
