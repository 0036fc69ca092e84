"""Carrying out a planned change of membership, until it has settled.

This module exists so that a change can be watched, and taken up again by the same command after
an interruption: what was done already is seen in the nodes' accounts and not done again. It decides
nothing about the change itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from mcpcore.ctl.member_plan import LAG_SETTLED, GroupView, Plan, Step, view_of
from mcpcore.ctl.profile import Profile
from mcpcore.ctl.status import Survey
from mcpcore.errors import CoordinationError, LearnerBehind, OutcomeUnknown
from mcpcore.node.transport.addresses import Address
from mcpcore.observe.health import Account

LOOK_AGAIN_S: Final = 0.2
TELL_EVERY_S: Final = 1.0

Say = Callable[[str], None]


class Surveyor:
    """Asks all nodes of a cluster, and one that is not part of it yet.

    Args:
        candidate: a node's name and address, if one is to be added.
    """

    def __init__(self, profile: Profile, candidate: tuple[str, Address] | None = None) -> None:
        self._profile = profile
        self._survey = Survey(profile)
        self._candidate = candidate
        self._addresses: set[Address] = set(profile.endpoints)
        self.problem = ""
        """Why the candidate could not be asked; empty if it could, or there is none."""

    async def accounts(self) -> list[Account]:
        """What all of them say."""
        accounts = await self._survey.ask()
        for account in accounts:
            self._addresses.add(Address.parse(account.endpoint))
        if self._candidate is None:
            return accounts
        name, address = self._candidate
        async with self._profile.client(administers=True, addresses=(address,)) as client:
            timeout_s = min(3.0, self._profile.timeout_s)
            told = next(iter((await client.status(timeout_s=timeout_s)).values()))
        if not isinstance(told, dict):
            self.problem = str(told)
        elif told["node"] != name:
            self.problem = f"{told['node']} answers at {address}"
        else:
            self.problem = ""
            if all(a.status is None or a.status["node"] != name for a in accounts):
                accounts = [*accounts, Account(str(address), name, told)]
        return accounts

    async def view(self, group: str) -> GroupView | None:
        """One group, as they say it is."""
        return view_of(group, await self.accounts())

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Every node that was heard of."""
        return tuple(sorted(self._addresses))

    async def close(self) -> None:
        """Hang up."""
        await self._survey.__aexit__()


async def carry_out(
    profile: Profile, surveyor: Surveyor, plan: Plan, say: Say, *, force: bool, wait_s: float
) -> GroupView:
    """Do the steps of a plan, each once the one before has settled. Returns how it ended.

    Raises:
        OutcomeUnknown: it has begun, and did not settle within ``wait_s``; it goes on by itself.
        Rejected: the leader refused a step.
    """
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + wait_s
    async with profile.client(administers=True, addresses=surveyor.addresses) as client:
        for step in plan.steps:
            say(step.what)
            told = -1
            while True:
                try:
                    await client.change_members(step.changes, group=plan.group, force=force)
                    break
                except LearnerBehind as behind:
                    if loop.time() >= deadline_s:
                        raise
                    if behind.behind != told:
                        say(f"not yet: {behind.learner} lacks {behind.behind} entries")
                    told = behind.behind
                    await asyncio.sleep(TELL_EVERY_S)
            view = await _settled(surveyor, plan, step, say, deadline_s)
    return view


async def _settled(
    surveyor: Surveyor, plan: Plan, step: Step, say: Say, deadline_s: float
) -> GroupView:
    loop = asyncio.get_running_loop()
    told_s, lag_then = loop.time(), None
    while True:
        view: GroupView | None = None
        try:
            view = await surveyor.view(plan.group)
        except CoordinationError as error:
            say(f"the nodes could not be asked: {error}")
        if view is not None and view.leader and is_done(view, step):
            return view
        now_s = loop.time()
        if now_s >= deadline_s:
            raise OutcomeUnknown(
                f"group {plan.group}: {step.what}: begun, and not settled yet. It goes on by "
                "itself; the same command again sees it through"
            )
        if view is not None and now_s - told_s >= TELL_EVERY_S:
            lag = view.lag.get(step.target)
            if lag is not None and lag > LAG_SETTLED and lag != lag_then:
                gained = 0 if lag_then is None else (lag_then - lag) / (now_s - told_s)
                rate = f", {gained:.0f} fewer each second" if gained > 0 else ""
                say(f"{step.target} lacks {lag} entries{rate}")
            told_s, lag_then = now_s, lag
        await asyncio.sleep(LOOK_AGAIN_S)


def is_done(view: GroupView, step: Step) -> bool:
    """Whether a step has come to its end."""
    if view.outgoing:
        return False
    lag = view.lag.get(step.target)
    caught_up = lag is not None and lag <= LAG_SETTLED
    match step.then:
        case "voter":
            return step.target in view.voters
        case "caught-up":
            return step.target in view.voters or (step.target in view.learners and caught_up)
        case _:
            return True
