"""Who a node deals with: groups that are founded or waited for, and peers wherever they moved.

This module exists so that two questions about membership which are the node's, not Raft's, are
answered in one place. *May this disk take part?* A group that the log does not hold is founded
together with its other first voters, or waits until a leader sends it the log. *Where is
everybody?* Peers are the members of all groups here, where their configurations say, else where our
file says; and those of the file as long as somebody is yet to let us in. They are added, moved and
dropped while the node runs. It takes no decision of Raft's, and holds no state of
a group.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Sequence
from typing import Final

import msgpack

from mcpcore.errors import ChangeRefused, CoordinationError, InvalidInput
from mcpcore.node.config import NodeConfig
from mcpcore.node.founding import Founding, Standing, refusal
from mcpcore.node.group import Group
from mcpcore.node.hosting import NOBODY, Hosting
from mcpcore.node.notes import (
    NOTES_PER_FRAME,
    NOTES_SINCE,
    FoundingAnswered,
    FoundingAsked,
    Note,
    to_rows,
)
from mcpcore.node.timekeeping import Timekeeper
from mcpcore.node.transport.addresses import Address
from mcpcore.node.transport.transport import Transport
from mcpcore.raft.membership import AddLearner, AddVoter, Change
from mcpcore.raft.types import Configuration, Member

logger = logging.getLogger("mcpcore.node")

ASK_AGAIN_S: Final = 1.0
LINGER_S: Final = 3.0
"""How long a peer that no group has any more stays connected at least, so that it is told; or three
election timeouts of its last group, if that is longer."""

WAITING: Final = "waiting for its leader (`mcpctl member list` says more)"
TO_BE_ADDED: Final = (
    "waiting to be added by a leader (`mcpctl member add`); if this is a new cluster, start every "
    "first voter with --bootstrap"
)


class Membership:
    """The node's side of membership.

    Args:
        incarnation: of this node's disk.
        transport: whose peers are kept up to date.
        hosting: the groups.
        timekeeper: whose clocks count, and what every frame begins with.
    """

    def __init__(
        self,
        config: NodeConfig,
        incarnation: str,
        transport: Transport,
        hosting: Hosting,
        timekeeper: Timekeeper,
    ) -> None:
        self._config = config
        self._incarnation = incarnation
        self._transport = transport
        self._hosting = hosting
        self._timekeeper = timekeeper
        self._foundings: dict[str, Founding] = {}
        self._withheld: dict[str, str] = {}
        self._refusals: dict[str, str] = {}
        self._opening: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking: asyncio.TimerHandle | None = None
        self._reviewing: asyncio.Handle | None = None
        self._met: dict[str, str] = {}
        self._moving: set[str] = set()
        self._dropping: dict[str, asyncio.TimerHandle] = {}
        self._closed = False

    # --- life ----------------------------------------------------------------------------------

    def start(self, fresh: Iterable[str]) -> None:
        """Begin with the groups that the log does not hold (yet).

        The groups of ``fresh`` take no part until they are founded or a leader has sent them
        something. Founding alone is done at once.
        """
        for name in fresh:
            self.begin(name, found=self._config.bootstrap)
        self.review()

    def begin(self, name: str, *, found: bool) -> None:
        """Wait for one group, or found it together with its other first voters."""
        voters = self._config.groups[name].voters
        self._withheld[name] = TO_BE_ADDED
        if found and self._config.name in voters:
            about = Member(zone=self._config.zone, incarnation=self._incarnation)
            founding = self._foundings[name] = Founding(self._config.name, about, voters)
            for peer, incarnation in self._met.items():
                self._introduce(founding, peer, incarnation)
            self._go_on(name, founding)
            for peer in founding.missing:
                self.tell(peer, [FoundingAsked(name)])
            if self._asking is None:  # one timer asks for all groups that are being founded
                self._ask_later()
        else:
            logger.info("group %s: %s", name, TO_BE_ADDED)

    def close(self) -> None:
        """Begin nothing more."""
        self._closed = True
        for timer in (self._asking, self._reviewing, *self._dropping.values()):
            if timer is not None:
                timer.cancel()
        for task in self._tasks:
            task.cancel()

    # --- may this disk take part? ----------------------------------------------------------------

    def withholds(self, name: str) -> bool:
        """Whether a message for this group must not reach it, since it is founded or opened first.

        A message for a group that waits is how a leader says that it was added: the group is opened
        without any members, and learns of them from its log.
        """
        if name not in self._withheld:
            return False
        if name not in self._foundings and name not in self._opening:
            self._open(name, NOBODY)
        return True

    def standing(self, group: Group) -> str:
        """Why a group takes no full part on this node; empty if nothing stands in the way."""
        state, own = group.raft.state, self._config.name
        why = self._refusals.get(group.name, "")
        if group.name in self._withheld:
            return self._withheld[group.name]
        if state.disqualified:
            return state.disqualified
        if not state.configuration.members:
            return f"{why}; {WAITING}" if why else WAITING
        if own not in state.configuration.members:
            return "no member (any more): it was removed, or is yet to be added"
        if not why or state.configuration.votes(own):
            return ""
        return f"a learner: {why}. `mcpctl member promote {own}` lets it vote again"

    def connected(self, peer: str, incarnation: str) -> str:
        """A peer's new session. Returns the incarnation that Raft is to know of.

        Until a peer speaks a version whose configurations hold incarnations, Raft is told of none,
        and so leaves the configurations of a half-upgraded cluster alone.
        """
        known = self._met.setdefault(peer, incarnation)
        self._met[peer] = incarnation
        if known != incarnation:
            logger.warning(
                "node %s came back with another disk (%s, before: %s): what it voted and stored "
                "is forgotten",
                peer,
                incarnation,
                known,
            )
        for name, founding in list(self._foundings.items()):
            self._introduce(founding, peer, incarnation)
            self._go_on(name, founding)
        self.tell(peer, [FoundingAsked(name) for name in self._withheld])
        return incarnation if self._transport.version(peer) >= NOTES_SINCE else ""

    def heard(self, peer: str, note: FoundingAsked | FoundingAnswered) -> None:
        """A question or an answer about the founding of a group."""
        name = note.group
        if isinstance(note, FoundingAsked):
            answer = FoundingAnswered(name, *self._account_of(name, peer), self._config.zone)
            self.tell(peer, [answer])
            return
        founding, standing = self._foundings.get(name), Standing(note.standing)
        if founding is not None:
            founding.answered(peer, standing, note.known_as, note.zone)
            self._go_on(name, founding)
        elif name in self._withheld and standing is Standing.STANDS:
            self._refusals[name] = refusal(peer, note.known_as, self._incarnation)

    def _account_of(self, name: str, peer: str) -> tuple[Standing, str]:
        group = self._hosting.find(name)
        if name in self._foundings:
            return Standing.FOUNDING, ""
        if group is None or name in self._withheld or not group.raft.state.configuration.members:
            return Standing.ABSENT, ""
        # The earliest that the log still knows: a leader may have let this disk in anew, as a
        # learner, before it has heard that it must not found the group.
        configuration = group.raft.state.configurations[0][1]
        return Standing.STANDS, configuration.member(peer).incarnation

    def _introduce(self, founding: Founding, peer: str, incarnation: str) -> None:
        can_answer = self._transport.version(peer) >= NOTES_SINCE
        founding.connected(peer, incarnation, can_answer=can_answer)

    def _go_on(self, name: str, founding: Founding) -> None:
        if founding.refusal:
            del self._foundings[name]
            self._refusals[name] = founding.refusal
            self._withheld[name] = f"not founding it: {founding.refusal}; {WAITING}"
            logger.warning("group %s: %s", name, self._withheld[name])
        elif founding.missing:
            missing = ", ".join(founding.missing)
            self._withheld[name] = (
                f"to be founded once all of its first voters are here and told to; missing: "
                f"{missing}"
            )
        elif name not in self._opening:
            self._open(name, founding.configuration())

    def _open(self, name: str, configuration: Configuration) -> None:
        self._opening.add(name)

        async def open_it() -> None:
            try:
                await self._hosting.open(name, configuration)
            except CoordinationError as error:
                logger.error("group %s could not be begun: %s", name, error)
                return  # the log failed, and the node stops with it
            finally:
                self._opening.discard(name)
            founded = self._foundings.pop(name, None) is not None
            del self._withheld[name]
            if founded:
                logger.info("group %s is founded: %s", name, configuration)
            self.review_soon()

        self._run(open_it(), f"open group {name}")

    def _ask(self) -> None:
        """Ask those again that have not answered: notes may get lost."""
        self._asking = None
        if self._closed or not self._foundings:
            return
        for peer in self._transport.peers:
            asked = [FoundingAsked(n) for n, f in self._foundings.items() if f.awaits(peer)]
            self.tell(peer, asked)
        self._ask_later()

    def _ask_later(self) -> None:
        self._asking = asyncio.get_running_loop().call_later(ASK_AGAIN_S, self._ask)

    def completed(self, group: Group, changes: Sequence[Change]) -> list[Change]:
        """Changes with what this node knows better than whoever asked: the disks of new members.

        Raises:
            ChangeRefused: a member speaks a version of the protocol that would not understand.
        """
        for peer in sorted(group.raft.state.configuration.members - {self._config.name}):
            version = self._transport.version(peer)
            if 0 < version < NOTES_SINCE:
                raise ChangeRefused(
                    group.name,
                    f"{peer} speaks protocol version {version} and would not understand the new "
                    "configuration",
                    "Upgrade every member first",
                )
        return [self._with_disk(change) for change in changes]

    def _with_disk(self, change: Change) -> Change:
        if not isinstance(change, AddVoter | AddLearner):
            return change
        member = change.member or Member()
        if member.incarnation or change.name not in self._met:
            return change
        return change._replace(member=member._replace(incarnation=self._met[change.name]))

    # --- where is everybody? ---------------------------------------------------------------------

    def review(self, _: Group | None = None) -> None:
        """A configuration has come into force, or fallen: have the right peers."""
        if self._closed:
            return
        configurations = [group.raft.state.configuration for group in self._hosting]
        own, known = self._config.name, dict(self._config.peers)
        for configuration in configurations:
            for name, member in configuration.about.items():
                if member.address:
                    known[name] = Address.parse(member.address, where="a configuration in force")
        members = {name for configuration in configurations for name in configuration.members}
        if all(own in configuration.members for configuration in configurations):
            # All who matter are in the logs. Otherwise somebody in our file is to let us in.
            wanted = {name: known[name] for name in members - {own} if name in known}
        else:
            wanted = {name: address for name, address in known.items() if name != own}
        for name, address in sorted(wanted.items()):
            self._want(name, address)
        for name in self._transport.peers:
            if name not in wanted and name not in self._dropping:
                self._drop_later(name)
        self._timekeeper.set_peers(self._transport.peers)

    def review_soon(self) -> None:
        """``review``, once for all groups of which this is asked in a loop turn."""
        if self._reviewing is None and not self._closed:
            self._reviewing = asyncio.get_running_loop().call_soon(self._review_now)

    def _review_now(self) -> None:
        self._reviewing = None
        self.review()

    def _want(self, name: str, address: Address) -> None:
        timer = self._dropping.pop(name, None)
        if timer is not None:
            timer.cancel()
        if name in self._moving:
            return
        known = self._transport.address_of(name)
        if known == address:
            return
        if known is not None:
            self._drop(name)
            return
        try:
            self._transport.add_peer(name, address)
        except InvalidInput as error:
            logger.warning("peer %s cannot be called at %s: %s", name, address, error)

    def _drop_later(self, name: str) -> None:
        """It is no member any more, and shall hear so before the connection ends."""
        slowest_ns = max(
            (group.raft.state.settings.election_timeout_ns for group in self._hosting), default=0
        )
        delay_s = max(LINGER_S, 3 * slowest_ns / 1e9)
        loop = asyncio.get_running_loop()
        self._dropping[name] = loop.call_later(delay_s, self._drop, name)

    def _drop(self, name: str) -> None:
        self._dropping.pop(name, None)
        self._moving.add(name)

        async def drop_it() -> None:
            try:
                await self._transport.remove_peer(name)
            finally:
                self._moving.discard(name)
            self.review()

        self._run(drop_it(), f"drop peer {name}")

    # --- inside ----------------------------------------------------------------------------------

    def tell(self, peer: str, notes: Sequence[Note], *, droppable: bool = False) -> None:
        """Send notes to a peer, if it understands them; who needs an answer asks again.

        Args:
            droppable: they may give way to anything else that waits for the peer.
        """
        if self._transport.version(peer) < NOTES_SINCE:
            return
        for start in range(0, len(notes), NOTES_PER_FRAME):
            rows = to_rows(notes[start : start + NOTES_PER_FRAME])
            frame = (self._timekeeper.header(peer), (), rows)
            self._transport.send(peer, msgpack.packb(frame), droppable=droppable)

    def _run(self, work: Coroutine[object, object, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
