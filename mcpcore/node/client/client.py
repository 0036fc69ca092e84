"""A client of a cluster: finds the leader, retries what is safe, and says what is not known.

This module exists so that a caller gets one of three answers and never a fourth: the result; a
``Rejected`` (nothing happened, and nothing will); an ``OutcomeUnknown`` (it may have happened).
A session makes retries exactly once, so the third is rare. It must never know what commands mean.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from mcpcore.errors import (
    AnswerTooLarge,
    ChangePending,
    ChangeRefused,
    ConnectionLost,
    CoordinationError,
    GroupReadOnly,
    HandshakeRefused,
    InvalidInput,
    LeaseUnavailable,
    MachineFault,
    NotLeader,
    NotPermitted,
    OutcomeUnknown,
    ProposalTooLarge,
    Rejected,
    SessionExpired,
    TransferRefused,
    UnknownGroup,
)
from mcpcore.node.changes import to_rows
from mcpcore.node.client.attempts import Attempts
from mcpcore.node.client.endpoint import Endpoint
from mcpcore.node.client.event_buffer import EventBuffer
from mcpcore.node.client.sequences import Sequences
from mcpcore.node.group import Applied, Consistency, ReadResult, Stale
from mcpcore.node.requests import Op
from mcpcore.node.tracing import Tracing, traced
from mcpcore.node.transport.addresses import Address
from mcpcore.node.transport.identity import Role
from mcpcore.node.transport.security import Security
from mcpcore.raft.membership import Change
from mcpcore.raft.sessions import (
    SessionAnswer,
    SessionStatus,
    close_session,
    register_session,
    session_command,
)
from mcpcore.raft.types import EntryKind

T = TypeVar("T")

_FINAL = (
    AnswerTooLarge,
    ChangeRefused,
    InvalidInput,
    LeaseUnavailable,
    MachineFault,
    NotPermitted,
    ProposalTooLarge,
    TransferRefused,
)
"""Refusals that another attempt would meet again, on any node."""

_BACKOFF_MIN_S = 0.02
_BACKOFF_MAX_S = 0.5


class Client:
    """A connection to a cluster. Use it as an asynchronous context manager.

    Args:
        addresses: nodes of the cluster, as ``host:port``; one that answers is enough to start.
        cluster: the cluster's name; nodes of another one are refused.
        security: ``Tls(ca, certificate, key)``, or ``Plaintext(allow_plaintext=True)`` on loopback.
        name: ours; with TLS it is the certificate's.
        role: CLIENT, or ADMIN for what only an administrator may do.
        timeout_s: how long a call may take in all, unless it says otherwise.
        attempt_s: how long to wait for one node before asking another; reads and proposals are
            safe to ask twice.
        rng: source of randomness for back-off.
        tracing: takes down what becomes of calls; None: nobody does.

    Raises:
        InvalidInput: no address, or a time that is not positive.
    """

    def __init__(
        self,
        addresses: Sequence[str | Address],
        *,
        cluster: str,
        security: Security,
        name: str = "client",
        role: Role = Role.CLIENT,
        timeout_s: float = 15.0,
        attempt_s: float = 2.0,
        rng: random.Random | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        if not addresses:
            raise InvalidInput("a client needs the address of at least one node", where="addresses")
        for name_, value in (("timeout_s", timeout_s), ("attempt_s", attempt_s)):
            if not value > 0:
                raise InvalidInput(f"must be positive, not {value!r}", where=name_)
        parsed = [
            address if isinstance(address, Address) else Address.parse(address, where="addresses")
            for address in addresses
        ]
        self._endpoints = [
            Endpoint(address, security, cluster=cluster, name=name, role=role, tracing=tracing)
            for address in parsed
        ]
        self._tracing = tracing
        self._timeout_s = timeout_s
        self._attempt_s = attempt_s
        self._rng = rng or random.Random()
        self._preferred: dict[str, Endpoint] = {}
        self._sessions: dict[str, Sequences] = {}
        self._opening: dict[str, asyncio.Lock] = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the sessions, if the cluster can be reached quickly, and hang up. Twice is harmless.

        Calls under way end at once, with ``Rejected`` or ``OutcomeUnknown`` as the case may be.
        """
        self._closed = True
        sessions, self._sessions = self._sessions, {}
        await asyncio.gather(*(self._end_session(*each) for each in sessions.items()))
        await asyncio.gather(*(endpoint.close() for endpoint in self._endpoints))

    # --- what a program uses ----------------------------------------------------------------

    @property
    def addresses(self) -> tuple[str, ...]:
        """The nodes that it may ask."""
        return tuple(str(endpoint.address) for endpoint in self._endpoints)

    async def propose(
        self, command: bytes, *, group: str = "main", timeout_s: float | None = None
    ) -> Applied:
        """Have a command applied exactly once, however often it must be sent.

        Returns:
            Its place in the log (of the copy that was applied), and the machine's result.

        Raises:
            GroupReadOnly: no node that can be reached is on a side with a quorum; not applied.
            Rejected: it was not applied and never will be.
            OutcomeUnknown: time ran out after it was sent; it may have been applied, may still be.
            InvalidInput: nobody can do anything with it; it was not applied.

        Cancelling gives up on the answer: the command may have been applied, or may still be.
        """
        proposing = self._propose_once(command, group, self._deadline(timeout_s))
        if self._tracing is not None:
            return await traced(self._tracing, "propose", group, proposing)
        return await proposing

    async def _propose_once(self, command: bytes, group: str, deadline: float) -> Applied:
        while True:
            sequences = self._sessions.get(group)
            if sequences is None or not sequences.has_room:
                sequences = await self._session(group, deadline)
            with sequences.next() as sequence:
                attempts = Attempts()
                data = session_command(
                    sequences.session, sequence, sequences.acknowledged_below, command
                )
                applied = await self._propose(group, EntryKind.SESSION, data, deadline, attempts)
            answer = _session_answer(group, applied)
            match answer.status:
                case SessionStatus.APPLIED:
                    return Applied(*answer.position, answer.result)
                case SessionStatus.SESSION_EXPIRED:
                    if self._sessions.get(group) is sequences:  # else somebody has a new one
                        del self._sessions[group]
                    if attempts.uncertain:
                        raise OutcomeUnknown(
                            f"group {group}: the session expired while the command was retried; "
                            "an earlier attempt may have been applied"
                        )
                case SessionStatus.ANSWER_NOT_KEPT:
                    raise OutcomeUnknown(
                        f"group {group}: the answer to this command is no longer kept"
                    )
                case other:
                    raise InvalidInput(f"group {group}: the session entry was refused: {other}")

    async def propose_again(
        self, data: bytes, kind: EntryKind, *, group: str = "main", timeout_s: float | None = None
    ) -> Applied:
        """Propose the very bytes of an entry that lost its place in a log: see ``quarantine``.

        A SESSION entry may be proposed any number of times; a COMMAND applies each time.

        Raises:
            Rejected: it was not applied.
            OutcomeUnknown: time ran out after it was sent.
        """
        attempts = Attempts(idempotent=kind is EntryKind.SESSION)
        proposing = self._propose(group, kind, data, self._deadline(timeout_s), attempts)
        if self._tracing is not None:
            return await traced(self._tracing, "propose again", group, proposing)
        return await proposing

    async def query(
        self,
        request: bytes,
        *,
        group: str = "main",
        consistency: Consistency | Stale = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> ReadResult:
        """Ask the state machine of a group a question.

        Raises:
            StalenessNotPromised: no node could promise a state as fresh as a ``Stale`` read asks.
            Rejected: nobody could answer in time, or the lease does not hold.
            InvalidInput: there is no such group or consistency.
        """

        async def ask(endpoint: Endpoint) -> ReadResult:
            body = await endpoint.call(Op.QUERY, group, request, str(consistency))
            found = ReadResult.from_row(body)
            if found is not None:
                return found
            raise ConnectionLost(str(endpoint.address), "its answer to a read is none")

        asking = self._retry(group, ask, self._deadline(timeout_s), Attempts(idempotent=True))
        if self._tracing is not None:
            return await traced(self._tracing, "query", group, asking)
        return await asking

    async def transfer_leadership(
        self, target: str, *, group: str = "main", timeout_s: float | None = None
    ) -> None:
        """Ask the leader to hand over; returns once it has begun.

        Raises:
            NotPermitted: we are no administrator.
            TransferRefused: the target cannot lead.
        """

        async def ask(endpoint: Endpoint) -> None:
            await endpoint.call(Op.TRANSFER, group, target)

        await self._retry(group, ask, self._deadline(timeout_s), Attempts(idempotent=True))

    async def backup(
        self, *, group: str = "main", timeout_s: float | None = None
    ) -> AsyncGenerator[dict[str, Any] | bytes, None]:
        """The applied state of a group as one node has it: first its description, then its bytes.

        Args:
            timeout_s: how long to wait for each answer.

        Raises:
            NotPermitted: we are no administrator.
            ConnectionLost: the node is gone; begin again.
            Rejected: no node could be found.
        """

        async def begin(endpoint: Endpoint) -> tuple[Endpoint, Any]:
            return endpoint, await endpoint.call(Op.BACKUP, group, 0)

        deadline, attempts = self._deadline(timeout_s), Attempts(idempotent=True)
        endpoint, (handle, description) = await self._retry(group, begin, deadline, attempts)
        yield description
        while True:
            try:
                async with asyncio.timeout_at(self._deadline(timeout_s)):
                    piece: bytes = await endpoint.call(Op.BACKUP, group, handle)
            except TimeoutError:
                raise ConnectionLost(str(endpoint.address), "no answer in time") from None
            if not piece:
                return
            yield piece

    async def change_members(
        self,
        changes: Sequence[Change],
        *,
        group: str = "main",
        force: bool = False,
        timeout_s: float | None = None,
    ) -> int:
        """Have the leader change who takes part in a group; returns once that is committed.

        A change of more than one voter is left by the leader some moments later. The same change
        twice is the same as once, so an outcome that is not known is found out by asking again.

        Args:
            force: promote a learner that has not caught up.

        Returns:
            The index of the change in the log.

        Raises:
            NotPermitted: we are no administrator.
            ChangeRefused: a rule stands against it; the error says which.
            OutcomeUnknown: time ran out after it was sent.
        """

        async def ask(endpoint: Endpoint) -> int:
            match await endpoint.call(Op.CHANGE, group, to_rows(changes), force):
                case (int(_), int(index), bytes(_)):
                    return index
            raise ConnectionLost(str(endpoint.address), "its answer to a change is none")

        return await self._retry(group, ask, self._deadline(timeout_s), Attempts())

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The nodes that this client was told of."""
        return tuple(self._endpoints)

    async def status(self, *, timeout_s: float = 3.0) -> dict[str, dict[str, Any] | Exception]:
        """Every node's own account of itself, or why it could not be had, by address."""
        return await self.ask_each(Op.STATUS, timeout_s=timeout_s)

    async def ask_each(
        self,
        op: Op,
        group: str = "",
        *arguments: object,
        among: Callable[[str], bool] = lambda address: True,
        timeout_s: float = 3.0,
    ) -> dict[str, Any]:
        """Ask every node the same, once: its answer, or the exception in its place, by address.

        Args:
            among: which addresses to ask; all, unless given.
        """

        async def one(endpoint: Endpoint) -> Any:
            try:
                async with asyncio.timeout(timeout_s):
                    return await endpoint.call(op, group, *arguments)
            except TimeoutError:
                return ConnectionLost(str(endpoint.address), f"no answer within {timeout_s:g} s")
            except CoordinationError as error:
                return error

        asked = [endpoint for endpoint in self._endpoints if among(str(endpoint.address))]
        answers = await asyncio.gather(*(one(endpoint) for endpoint in asked))
        return {
            str(endpoint.address): answer for endpoint, answer in zip(asked, answers, strict=True)
        }

    async def watch(
        self, request: bytes, *, group: str = "main", timeout_s: float | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Follow a machine's changes on one node, until that node is lost or the watch is over.

        Close the iterator when you have heard enough (``contextlib.aclosing``).

        Args:
            timeout_s: how long to look for a node; events may then be as rare as they like.

        Yields:
            Encoded events.

        Raises:
            ConnectionLost: the node is gone; watch again from the last event.
            WatchOverrun: events were taken too slowly; watch again from the last event.
            Rejected: no node could be found.
            InvalidInput: the request is none.
        """

        async def ask(endpoint: Endpoint) -> tuple[EventBuffer, Callable[[], None]]:
            events = EventBuffer()
            return events, await endpoint.watch(group, request, events)

        deadline, attempts = self._deadline(timeout_s), Attempts(idempotent=True)
        events, cancel = await self._retry(group, ask, deadline, attempts, prefer=False)
        try:
            while (event := await events.get()) is not None:
                yield event
        finally:
            cancel()

    # --- inside ----------------------------------------------------------------------------------

    def _deadline(self, timeout_s: float | None) -> float:
        wanted = self._timeout_s if timeout_s is None else timeout_s
        return asyncio.get_running_loop().time() + wanted

    async def _session(self, group: str, deadline: float) -> Sequences:
        """The session of a group, opened if there is none, with room for one more command."""
        try:
            async with asyncio.timeout_at(deadline):
                async with self._opening.setdefault(group, asyncio.Lock()):
                    sequences = self._sessions.get(group)
                    if sequences is None:
                        sequences = await self._open_session(group, deadline)
                        self._sessions[group] = sequences
                await sequences.room()
                return sequences
        except TimeoutError:
            raise Attempts().give_up(group, "too many commands are under way") from None

    async def _open_session(self, group: str, deadline: float) -> Sequences:
        # Twice registered is harmless: the first one is never used and expires.
        attempts = Attempts(idempotent=True)
        data = register_session()
        applied = await self._propose(group, EntryKind.SESSION, data, deadline, attempts)
        answer = _session_answer(group, applied)
        if answer.status is not SessionStatus.REGISTERED:
            raise SessionExpired(f"group {group}: no session was opened: {answer.status.name}")
        return Sequences(answer.session)

    async def _end_session(self, group: str, sequences: Sequences) -> None:
        """Best effort: a session that nobody ends is forgotten when others need its place."""
        endpoint = self._preferred.get(group, self._endpoints[0])
        data = close_session(sequences.session)
        with suppress(CoordinationError, TimeoutError):
            async with asyncio.timeout(1.0):
                await endpoint.call(Op.PROPOSE, group, int(EntryKind.SESSION), data)

    async def _propose(
        self, group: str, kind: EntryKind, data: bytes, deadline: float, attempts: Attempts
    ) -> Applied:
        async def ask(endpoint: Endpoint) -> Applied:
            body = await endpoint.call(Op.PROPOSE, group, int(kind), data)
            match body:
                case (int(term), int(index), bytes(result)):
                    return Applied(term, index, result)
            raise ConnectionLost(str(endpoint.address), "its answer to a proposal is none")

        return await self._retry(group, ask, deadline, attempts)

    async def _retry(
        self,
        group: str,
        ask: Callable[[Endpoint], Awaitable[T]],
        deadline: float,
        attempts: Attempts,
        *,
        prefer: bool = True,
    ) -> T:
        """Ask one node after the other until one answers, or nobody ever will, or time is up."""
        loop = asyncio.get_running_loop()
        endpoint = self._preferred.get(group) or self._rng.choice(self._endpoints)
        pause_s, hinted = _BACKOFF_MIN_S, False
        while True:
            left = deadline - loop.time()
            if left <= 0:
                raise attempts.give_up(group, "time ran out")
            if self._closed:
                raise attempts.give_up(group, "the client was closed")
            leader, sent = "", False
            try:
                async with asyncio.timeout(min(left, self._attempt_s)):
                    await endpoint.connect()
                    sent = True  # from here on nobody knows, unless an answer says so
                    result = await ask(endpoint)
                if prefer:
                    self._preferred[group] = endpoint
                return result
            except (HandshakeRefused, UnknownGroup) as refusal:
                if attempts.refused(endpoint, refusal) == len(self._endpoints):
                    raise attempts.final(group, refusal) from None
            except ChangePending as refusal:  # which is a ChangeRefused, and passes by itself
                attempts.note(refusal, sent=False)
            except _FINAL as refusal:
                raise attempts.final(group, refusal) from None
            except NotLeader as refusal:
                attempts.note(refusal, sent=False)
                leader = refusal.leader or ""
                attempts.cut_off(endpoint, refusal, len(self._endpoints))
            except (Rejected, OutcomeUnknown, TimeoutError) as error:
                attempts.note(error, sent=sent and not isinstance(error, Rejected))
                read_only = attempts.cut_off(endpoint, error, len(self._endpoints))
                if read_only is not None:
                    raise read_only from None
                if isinstance(error, GroupReadOnly):
                    leader = error.might_lead
            # A hint is followed at once, but only one in a row: two nodes that each take the other
            # for the leader would keep us running between them.
            following = None if hinted or not leader else self._named(leader)
            hinted = following is not None and following is not endpoint
            if not hinted:
                pause = pause_s * (0.5 + self._rng.random())
                await asyncio.sleep(min(pause, max(0.0, deadline - loop.time())))
                pause_s = min(pause_s * 2, _BACKOFF_MAX_S)
                following = (leader and self._named(leader)) or self._after(endpoint)
            assert following is not None
            endpoint = following

    def _named(self, node: str) -> Endpoint | None:
        return next((endpoint for endpoint in self._endpoints if endpoint.node == node), None)

    def _after(self, endpoint: Endpoint) -> Endpoint:
        position = self._endpoints.index(endpoint)
        return self._endpoints[(position + 1) % len(self._endpoints)]


def _session_answer(group: str, applied: Applied) -> SessionAnswer:
    try:
        return SessionAnswer.decode(applied.result)
    except InvalidInput as error:
        raise OutcomeUnknown(f"group {group}: committed at {applied.index}, and {error}") from error
