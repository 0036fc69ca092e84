"""A client of a cluster: finds the leader, retries what is safe, and says what is not known.

This module exists so that a caller gets one of three answers and never a fourth: the result; a
``Rejected`` (nothing happened, and nothing will); an ``OutcomeUnknown`` (it may have happened).
A session makes retries exactly once, so the third is rare. It must never know what commands mean.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from mcpcore.errors import (
    ClusterUnavailable,
    ConnectionLost,
    CoordinationError,
    HandshakeRefused,
    InvalidInput,
    LeaseUnavailable,
    NotLeader,
    NotPermitted,
    OutcomeUnknown,
    ProposalTooLarge,
    Rejected,
    SessionExpired,
    TransferRefused,
    Unreachable,
)
from mcpcore.node.addresses import Address
from mcpcore.node.endpoint import Endpoint
from mcpcore.node.group import Applied, Consistency, ReadResult
from mcpcore.node.identity import Role
from mcpcore.node.requests import Op
from mcpcore.node.security import Security
from mcpcore.node.sequences import Sequences
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
    ProposalTooLarge,
    NotPermitted,
    TransferRefused,
    LeaseUnavailable,
    HandshakeRefused,
)
"""Refusals that another attempt would meet again."""

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
    ) -> None:
        if not addresses:
            raise InvalidInput("a client needs the address of at least one node", where="addresses")
        parsed = [
            address if isinstance(address, Address) else Address.parse(address, where="addresses")
            for address in addresses
        ]
        self._endpoints = [
            Endpoint(address, security, cluster=cluster, name=name, role=role) for address in parsed
        ]
        self._timeout_s = timeout_s
        self._attempt_s = attempt_s
        self._rng = rng or random.Random()
        self._preferred: dict[str, Endpoint] = {}
        self._sessions: dict[str, Sequences] = {}
        self._opening: dict[str, asyncio.Lock] = {}

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
        """End the sessions, if the cluster can be reached quickly, and hang up."""
        for group, sequences in self._sessions.items():
            with suppress(CoordinationError, TimeoutError):
                async with asyncio.timeout(1.0):
                    data = close_session(sequences.session)
                    await self._propose_once(group, EntryKind.SESSION, data)
        for endpoint in self._endpoints:
            endpoint.close()

    # --- what a program uses ----------------------------------------------------------------

    async def propose(
        self, command: bytes, *, group: str = "main", timeout_s: float | None = None
    ) -> Applied:
        """Have a command applied exactly once, however often it must be sent.

        Returns:
            Its place in the log (of the copy that was applied), and the machine's result.

        Raises:
            Rejected: it was not applied and never will be.
            OutcomeUnknown: time ran out after it was sent; it may have been applied, may still be.
        """
        deadline = self._deadline(timeout_s)
        while True:
            sequences = await self._session(group, deadline)
            with sequences.next() as sequence:
                attempts = _Attempts()
                data = session_command(
                    sequences.session, sequence, sequences.acknowledged_below, command
                )
                applied = await self._propose(group, EntryKind.SESSION, data, deadline, attempts)
            answer = SessionAnswer.decode(applied.result)
            match answer.status:
                case SessionStatus.APPLIED:
                    return Applied(*answer.position, answer.result)
                case SessionStatus.SESSION_EXPIRED:
                    self._sessions.pop(group, None)
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

    async def query(
        self,
        request: bytes,
        *,
        group: str = "main",
        consistency: Consistency = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> ReadResult:
        """Ask the state machine of a group a question.

        Raises:
            Rejected: nobody could answer in time, or the lease does not hold.
        """

        async def ask(endpoint: Endpoint) -> ReadResult:
            body = await endpoint.call(Op.QUERY, group, request, str(consistency))
            return ReadResult(*body)

        return await self._retry(group, ask, self._deadline(timeout_s), _Attempts(idempotent=True))

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

        await self._retry(group, ask, self._deadline(timeout_s), _Attempts(idempotent=True))

    async def status(self, *, timeout_s: float = 3.0) -> dict[str, dict[str, Any] | Exception]:
        """Every node's own account of itself, or why it could not be had, by address."""

        async def one(endpoint: Endpoint) -> dict[str, Any] | Exception:
            try:
                async with asyncio.timeout(timeout_s):
                    status: dict[str, Any] = await endpoint.call(Op.STATUS, "")
                    return status
            except TimeoutError:
                return ConnectionLost(str(endpoint.address), f"no answer within {timeout_s:g} s")
            except CoordinationError as error:
                return error

        answers = await asyncio.gather(*(one(endpoint) for endpoint in self._endpoints))
        return {
            str(endpoint.address): answer
            for endpoint, answer in zip(self._endpoints, answers, strict=True)
        }

    async def watch(self, request: bytes, *, group: str = "main") -> AsyncIterator[bytes]:
        """Follow a machine's changes on one node, until that node is lost.

        Yields:
            Encoded events.

        Raises:
            ConnectionLost: the node is gone; watch again from the last event.
        """
        events: asyncio.Queue[Any] = asyncio.Queue()
        endpoint = await self._reachable(group)
        cancel = await endpoint.watch(group, request, events.put_nowait)
        try:
            while True:
                event = await events.get()
                if event is None:
                    raise ConnectionLost(str(endpoint.address), "the watch ended with it")
                yield event
        finally:
            cancel()

    # --- inside ----------------------------------------------------------------------------------

    def _deadline(self, timeout_s: float | None) -> float:
        wanted = self._timeout_s if timeout_s is None else timeout_s
        return asyncio.get_running_loop().time() + wanted

    async def _session(self, group: str, deadline: float) -> Sequences:
        lock = self._opening.setdefault(group, asyncio.Lock())
        async with lock:
            sequences = self._sessions.get(group)
            if sequences is None:
                # Twice registered is harmless: the first one is never used and expires.
                attempts = _Attempts(idempotent=True)
                applied = await self._propose(
                    group, EntryKind.SESSION, register_session(), deadline, attempts
                )
                answer = SessionAnswer.decode(applied.result)
                if answer.status is not SessionStatus.REGISTERED:
                    raise SessionExpired(f"group {group}: no session was opened: {answer.status}")
                sequences = self._sessions[group] = Sequences(answer.session)
        await sequences.room()
        return sequences

    async def _propose(
        self, group: str, kind: EntryKind, data: bytes, deadline: float, attempts: _Attempts
    ) -> Applied:
        async def ask(endpoint: Endpoint) -> Applied:
            return Applied(*await endpoint.call(Op.PROPOSE, group, int(kind), data))

        return await self._retry(group, ask, deadline, attempts)

    async def _propose_once(self, group: str, kind: EntryKind, data: bytes) -> None:
        endpoint = self._preferred.get(group, self._endpoints[0])
        await endpoint.call(Op.PROPOSE, group, int(kind), data)

    async def _retry(
        self,
        group: str,
        ask: Callable[[Endpoint], Awaitable[T]],
        deadline: float,
        attempts: _Attempts,
    ) -> T:
        loop = asyncio.get_running_loop()
        endpoint = self._preferred.get(group) or self._rng.choice(self._endpoints)
        pause_s = _BACKOFF_MIN_S
        while True:
            left = deadline - loop.time()
            if left <= 0:
                raise attempts.give_up(group)
            hint: str | None = None
            try:
                async with asyncio.timeout(min(left, self._attempt_s)):
                    result = await ask(endpoint)
                self._preferred[group] = endpoint
                return result
            except _FINAL:
                raise
            except NotLeader as error:
                attempts.note(error, sent=False)
                hint = error.leader
            except (Unreachable, Rejected) as error:
                attempts.note(error, sent=False)
            except (ConnectionLost, OutcomeUnknown, TimeoutError) as error:
                attempts.note(error, sent=True)
            following = self._named(hint) if hint else None
            if following is None or following is endpoint:
                await asyncio.sleep(min(pause_s * (0.5 + self._rng.random()), max(0.0, left)))
                pause_s = min(pause_s * 2, _BACKOFF_MAX_S)
                following = following or self._after(endpoint)
            endpoint = following

    def _named(self, node: str) -> Endpoint | None:
        return next((endpoint for endpoint in self._endpoints if endpoint.node == node), None)

    def _after(self, endpoint: Endpoint) -> Endpoint:
        position = self._endpoints.index(endpoint)
        return self._endpoints[(position + 1) % len(self._endpoints)]

    async def _reachable(self, group: str) -> Endpoint:
        first = self._preferred.get(group) or self._rng.choice(self._endpoints)
        others = [endpoint for endpoint in self._endpoints if endpoint is not first]
        problems: list[str] = []
        for endpoint in (first, *others):
            try:
                async with asyncio.timeout(self._attempt_s):
                    await endpoint.connect()
                return endpoint
            except (CoordinationError, TimeoutError) as error:
                problems.append(f"{endpoint.address}: {str(error) or 'no answer'}")
        raise ClusterUnavailable(group, "; ".join(problems))


class _Attempts:
    """What the attempts at one call have shown."""

    def __init__(self, *, idempotent: bool = False) -> None:
        self._idempotent = idempotent
        self.uncertain = False
        self._last = "no attempt was made"

    def note(self, error: BaseException, *, sent: bool) -> None:
        self.uncertain = self.uncertain or sent
        self._last = str(error) or "no answer in time"

    def give_up(self, group: str) -> CoordinationError:
        if self.uncertain and not self._idempotent:
            return OutcomeUnknown(
                f"group {group}: time ran out; the command was sent and may have been applied, or "
                f"may still be. Last: {self._last}"
            )
        return ClusterUnavailable(group, self._last)
