"""What administrators ask about quarantine and reunions, answered.

This module exists so that the five questions (list, show, decide; look, agree) are one table beside
the door that all clients use. Who may ask is that door's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcpcore.errors import InvalidInput, StorageFailed
from mcpcore.node.quarantining import brief
from mcpcore.node.requests import Op
from mcpcore.raft.quarantined import Fate, Quarantined

if TYPE_CHECKING:
    from mcpcore.node.group import Group

OPS = frozenset({Op.QUARANTINE, Op.QUARANTINE_SHOW, Op.QUARANTINE_DECIDE, Op.REUNION, Op.REUNITE})


async def answer(group: Group, op: Op, arguments: tuple[Any, ...]) -> object:
    """The answer to one of ``OPS``.

    Raises:
        InvalidInput: there is no such entry, or the decision makes no sense.
        StorageFailed: the disk did not take an operator's answer, or cannot be read.
    """
    try:
        return await _answer(group, op, arguments)
    except OSError as error:
        raise StorageFailed(f"group {group.name}: the disk does not work: {error}") from error


async def _answer(group: Group, op: Op, arguments: tuple[Any, ...]) -> object:
    quarantine, sessions = group.quarantine, group.state.sessions
    if op is Op.QUARANTINE:
        return quarantine.described(sessions, every=arguments[0])
    if op is Op.QUARANTINE_SHOW:
        item = quarantine.show(arguments[0])
        return {**brief(item, sessions), "data": item.data, "refusal": _refusal(group, item)}
    if op is Op.QUARANTINE_DECIDE:
        number, verb, by, note = arguments
        if verb == Fate.DISCARDED:
            decided = await quarantine.discard(number, by=by, note=note)
        elif verb == Fate.REPROPOSED:
            decided = await quarantine.reproposed(number, by=by, note=note)
        else:
            raise InvalidInput(f"{verb!r} is nothing to decide about an entry", where="quarantine")
        return brief(decided, sessions)
    if op is Op.REUNION:
        return group.reunions.described()
    episode, by = arguments
    await group.reunions.agree(episode, by)
    return None


def _refusal(group: Group, item: Quarantined) -> str:
    """Why an entry cannot be proposed again as it is; empty if it can."""
    try:
        group.quarantine.proposal(item.number)
    except InvalidInput as refusal:
        return str(refusal)
    return ""
