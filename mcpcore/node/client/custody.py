"""Quarantine and reunions of a group, asked of all its nodes and decided upon from one client.

This module exists so that whoever proposes a quarantined command again does it the one safe way:
the very bytes, to whoever leads, and the outcome on record where the entry lies. A node knows only
its own quarantine; here all of them are put together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mcpcore.errors import InvalidInput, OutcomeUnknown, UnknownGroup
from mcpcore.node.client.client import Client
from mcpcore.node.quarantining import came_of_it
from mcpcore.node.requests import Op
from mcpcore.raft.quarantined import Fate
from mcpcore.raft.types import EntryKind


class Accounts(NamedTuple):
    """What all nodes of a group say, and why some said nothing.

    Args:
        nodes: by name, as ``QuarantineKeeper.described`` or ``Reuniting.described`` tells it.
        addresses: where each of them is reached.
        silent: by address.
    """

    nodes: Mapping[str, Mapping[str, Any]]
    addresses: Mapping[str, str]
    silent: Mapping[str, Exception]


async def quarantines(client: Client, group: str, *, every: bool = False) -> Accounts:
    """What every node of the group has in quarantine.

    Args:
        every: with the entries about which somebody has decided.

    Raises:
        UnknownGroup: no node has the group. NotPermitted: we are no administrator.
    """
    return await _accounts(client, Op.QUARANTINE, group, every)


async def reunions(client: Client, group: str) -> Accounts:
    """What waits for an operator on every node, and the reports of past cuts.

    Raises:
        UnknownGroup: no node has the group. NotPermitted: we are no administrator.
    """
    return await _accounts(client, Op.REUNION, group)


async def show(client: Client, group: str, address: str, number: int) -> dict[str, Any]:
    """One entry with all its bytes (``data``), and why it may not be proposed again (``refusal``).

    Raises:
        InvalidInput: there is no such entry.
    """
    told: dict[str, Any] = await _one(client, address, Op.QUARANTINE_SHOW, group, number)
    return told


async def discard(
    client: Client, group: str, address: str, number: int, *, by: str, note: str = ""
) -> dict[str, Any]:
    """Throw an entry away, on record.

    Raises:
        InvalidInput: there is no such entry, or it was decided upon before.
    """
    verb = str(Fate.DISCARDED)
    return await _decide(client, address, group, number, verb, by, note)


async def repropose(
    client: Client,
    group: str,
    address: str,
    number: int,
    *,
    by: str,
    may_apply_twice: bool = False,
) -> dict[str, Any]:
    """Propose an entry again to whoever leads, and put on record what came of it.

    Raises:
        InvalidInput: there is no such entry, or it may not be proposed again.
        Rejected: the group did not take it. OutcomeUnknown: it may have. In both cases nothing is
            on record, and a client's command may be proposed again as often as need be.
    """
    item = await show(client, group, address, number)
    kind = EntryKind[item["kind"].upper()]
    outside = kind is EntryKind.COMMAND and item["fate"] == Fate.KEPT
    if item["refusal"] and not (outside and may_apply_twice):
        raise InvalidInput(item["refusal"])
    applied = await client.propose_again(item["data"], kind, group=group)
    note, verb = came_of_it(kind, applied), str(Fate.REPROPOSED)
    return await _decide(client, address, group, number, verb, by, note)


async def reunite(client: Client, group: str, address: str, episode: str, *, by: str) -> None:
    """Let the reunion that waits on a node go ahead.

    Raises:
        InvalidInput: none waits there, or another one.
    """
    await _one(client, address, Op.REUNITE, group, episode, by)


async def _accounts(client: Client, op: Op, group: str, *arguments: object) -> Accounts:
    nodes, addresses, silent = {}, {}, {}
    absent: Exception | None = None
    for address, told in (await client.ask_each(op, group, *arguments)).items():
        match told:
            case {"node": str(node)}:
                nodes[node], addresses[node] = told, address
            case UnknownGroup():
                absent = told
            case Exception():
                silent[address] = told
            case _:
                silent[address] = OutcomeUnknown(f"{address}: its answer is none")
    if not nodes and (absent or silent):
        raise absent or next(iter(silent.values()))
    return Accounts(nodes, addresses, silent)


async def _decide(client: Client, address: str, group: str, *decision: object) -> dict[str, Any]:
    told: dict[str, Any] = await _one(client, address, Op.QUARANTINE_DECIDE, group, *decision)
    return told


async def _one(client: Client, address: str, op: Op, group: str, *arguments: object) -> Any:
    answers = await client.ask_each(op, group, *arguments, among=address.__eq__)
    if not answers:
        raise InvalidInput(f"{address} is none of the nodes of this client", where="address")
    [told] = answers.values()
    if isinstance(told, Exception):
        raise told
    return told
