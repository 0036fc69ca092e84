"""Groups made, listed and retired on all their members, from one client.

This module exists so that one call leaves a group on every member or says plainly where it is
missing, and so that running it again finishes what was interrupted. A node knows only itself; what
needs a look at all of them is refused here, before anything is done.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from mcpcore.errors import CoordinationError, InvalidInput, OutcomeUnknown, Rejected, UnknownGroup
from mcpcore.node.client.client import Client
from mcpcore.node.requests import Op
from mcpcore.raft.settings import RaftSettings


class Hosted(NamedTuple):
    """What one node says of its groups.

    Args:
        groups: role, term, leader, applied index, whether it sleeps, members; by name.
        retired: names of groups that were retired there.
    """

    node: str
    address: str
    groups: Mapping[str, Mapping[str, Any]]
    retired: Collection[str]


class Survey(NamedTuple):
    """What all nodes say, and why some said nothing, by address."""

    nodes: tuple[Hosted, ...]
    silent: Mapping[str, Exception]


async def list_groups(client: Client, *, timeout_s: float = 3.0) -> Survey:
    """Ask every node which groups it has."""
    nodes, silent = [], {}
    for address, told in (await client.ask_each(Op.GROUPS, timeout_s=timeout_s)).items():
        match told:
            case {"node": str(node), "groups": dict(groups), "retired": tuple(retired)}:
                nodes.append(Hosted(node, address, groups, retired))
            case Exception():
                silent[address] = told
            case _:
                silent[address] = OutcomeUnknown(f"{address}: its list of groups is none")
    return Survey(tuple(nodes), silent)


async def create_group(
    client: Client,
    group: str,
    voters: Sequence[str] = (),
    settings: RaftSettings | None = None,
    *,
    timeout_s: float = 10.0,
) -> tuple[str, ...]:
    """Make a group on all its voters, durably; again is harmless. Returns the voters.

    Args:
        voters: names of nodes; all that the client knows, if none are given.

    Raises:
        Rejected: a voter does not answer, or the name was retired on some and is served on others;
            nothing was done.
        InvalidInput: a node refuses such a group.
        OutcomeUnknown: it was made on some voters, and perhaps not on others: run it again.
    """
    survey = await list_groups(client)
    known = {hosted.node: hosted for hosted in survey.nodes}
    if not voters:
        if survey.silent:
            raise Rejected(
                f"group {group}: {_why(survey.silent)}; name its voters, or wait until all answer"
            )
        voters = sorted(known)
    missing = sorted(set(voters) - set(known))
    if missing:
        hint = _why(survey.silent) if survey.silent else f"those asked are {', '.join(known)}"
        raise Rejected(
            f"group {group}: nothing was done, because {', '.join(missing)} did not answer ({hint})"
        )
    served = [node for node in voters if group in known[node].groups]
    retired = [node for node in voters if group in known[node].retired]
    if served and retired:
        raise Rejected(
            f"group {group} was retired on {', '.join(retired)} and is still served on "
            f"{', '.join(served)}: retire it there first, or what it committed could be lost"
        )
    told = await client.ask_each(
        Op.CREATE_GROUP,
        group,
        list(voters),
        (settings or RaftSettings().with_usual_floors()).as_told(),
        among={known[node].address for node in voters}.__contains__,
        timeout_s=timeout_s,
    )
    _judge(f"group {group} was not made everywhere", told)
    return tuple(voters)


async def retire_group(client: Client, group: str, *, timeout_s: float = 10.0) -> tuple[str, ...]:
    """End a group on every node that has it; again is harmless. Returns those that had it.

    Raises:
        UnknownGroup: no node has it.
        OutcomeUnknown: some nodes did not answer: run it again when they do.
    """
    survey = await list_groups(client)
    having = [hosted for hosted in survey.nodes if group in hosted.groups]
    known = {name for hosted in survey.nodes for name in hosted.groups}
    if not having and not survey.silent and not any(group in h.retired for h in survey.nodes):
        raise UnknownGroup(group, "any of the nodes asked", tuple(sorted(known)[:20]))
    told = await client.ask_each(
        Op.RETIRE_GROUP,
        group,
        among={hosted.address for hosted in having}.__contains__,
        timeout_s=timeout_s,
    )
    gone = {at: answer for at, answer in told.items() if not isinstance(answer, UnknownGroup)}
    members = {member for h in having for member in h.groups[group]["members"]}
    unheard = members - {hosted.node for hosted in survey.nodes}
    silent = dict(survey.silent) if unheard or not having else {}
    _judge(f"group {group} was not retired everywhere", {**gone, **silent})
    return tuple(hosted.node for hosted in having)


def _judge(what: str, told: Mapping[str, Any]) -> None:
    """Raise what the answers amount to, if anything went wrong.

    Raises:
        InvalidInput: all that failed say that the request makes no sense.
        OutcomeUnknown: anything else.
    """
    failed = {at: error for at, error in told.items() if isinstance(error, Exception)}
    if not failed:
        return
    first = next(iter(failed.values()))
    alike = len(failed) == len(told) and all(type(e) is type(first) for e in failed.values())
    if alike and isinstance(first, InvalidInput | Rejected):
        raise first  # everywhere the same, and nowhere anything done
    raise OutcomeUnknown(f"{what}: {_why(failed)}; run it again when that is mended")


def _why(silent: Mapping[str, Exception]) -> str:
    told = {
        address: str(error) if isinstance(error, CoordinationError) else repr(error)
        for address, error in silent.items()
    }
    return "; ".join(
        text if text.startswith(address) else f"{address}: {text}" for address, text in told.items()
    )
