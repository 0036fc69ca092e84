"""Replicas tell each other the digests of their states, and act on the verdict.

This module exists so that ``divergence`` stays pure: here is when a digest is taken and sent, who
is told, and what a node does when its own replica is in doubt. Idle groups cost nothing. It must
never decide who is right.

Under load replicas meet at multiples of an index, or at one that the leader names ahead of time;
a group at rest is compared where it rests. All of it travels as notes, some bytes for each group
that moved, every few seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from mcpcore.errors import Rejected
from mcpcore.node.group import Group
from mcpcore.node.hosting import Hosting
from mcpcore.node.notes import DigestTaken, DigestWanted, Note
from mcpcore.raft.types import Configuration

logger = logging.getLogger("mcpcore.node")

COMPARE_EVERY_S: Final = 2.0


class Comparing:
    """Compares the replicas on this node with those on others.

    Args:
        own: our name.
        tell: sends notes to a peer; they may get lost.
    """

    def __init__(
        self, own: str, hosting: Hosting, tell: Callable[[str, Sequence[Note]], None]
    ) -> None:
        self._own = own
        self._hosting = hosting
        self._tell = tell
        self._moved: dict[Group, None] = {}
        self._doubted: dict[Group, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def close(self) -> None:
        """Compare nothing more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def moved(self, group: Group) -> None:
        """A group has applied something: compare it before long."""
        self._moved[group] = None
        if self._timer is None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(COMPARE_EVERY_S, self._beat)

    def marked(self, group: Group, index: int) -> None:
        """A group has taken a digest; others may have told theirs already."""
        configuration = group.raft.state.configuration
        if group.applying.watch.judge(index, configuration.voters, configuration.members):
            self._changed(group)

    def connected(self, peer: str) -> None:
        """A peer that may have been away is told where we stand."""
        notes = [
            DigestTaken(group.name, *group.applying.watch.newest)
            for group in self._hosting
            if group.applying.watch.newest is not None
            and peer in group.raft.state.configuration.members
        ]
        self._tell(peer, notes)

    def heard(self, peer: str, note: DigestWanted | DigestTaken) -> None:
        """A peer takes a digest, or has taken one."""
        group = self._hosting.find(note.group)
        if group is None or peer not in group.raft.state.configuration.members:
            return
        if isinstance(note, DigestWanted):
            if note.index > group.applied:
                group.applying.watch.want(note.index)
            return
        if note.index == group.applied and (group.applying.watch.newest or (0,))[0] != note.index:
            group.applying.mark()  # we stand just there
        if group.applying.watch.hear(peer, note.index, note.digest, group.applied):
            self.marked(group, note.index)

    def reconfigured(self, group: Group) -> None:
        """Somebody may have gone with whom the others differed."""
        if group.applying.watch.without(group.raft.state.configuration.members):
            self._changed(group)

    # --- inside --------------------------------------------------------------------------------

    def _beat(self) -> None:
        self._timer = None
        moved, self._moved = self._moved, {}
        letters: dict[str, list[Note]] = {}
        for group in moved:
            if group.failure is None:
                for peer, note in self._claims(group):
                    letters.setdefault(peer, []).append(note)
        for peer, notes in letters.items():
            self._tell(peer, notes)
        for group in list(self._doubted):
            if group.applying.watch.divergence is None:
                del self._doubted[group]
            else:
                self._moved[group] = None
                _hand_over(group, group.raft.state.configuration, self._own)
        if self._moved and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(COMPARE_EVERY_S, self._beat)

    def _claims(self, group: Group) -> list[tuple[str, Note]]:
        state, watch = group.raft.state, group.applying.watch
        others = sorted(state.configuration.members - {self._own})
        rests = group.applied == state.commit == state.log.last_index
        notes: list[Note] = []
        if rests and group.applied and (watch.newest is None or watch.newest[0] < group.applied):
            group.applying.mark()
        if state.is_leader:
            # Members rest at different moments; at an index that is still to come they all meet.
            ahead = state.log.last_index + 1
            watch.want(ahead)
            notes.append(DigestWanted(group.name, ahead))
        notes += [DigestTaken(group.name, *claim) for claim in watch.take_untold()]
        return [(peer, note) for peer in others for note in notes]

    def _changed(self, group: Group) -> None:
        found = group.applying.watch.divergence
        if found is None:
            again = {"group": group.name}
            logger.warning("group %s: the replicas agree again", group.name, extra=again)
            return
        logger.error(
            "group %s: replicas hold different states: %s. Compared at %d: %s",
            group.name,
            found,
            found.index,
            ", ".join(f"{member} {digest[:8]}" for member, digest in found.digests.items()),
            extra={"group": group.name, "index": found.index},
        )
        self._doubted[group] = None
        configuration = group.raft.state.configuration
        # The others are to know as soon as we do, from us: a claim waits for its beat otherwise.
        claims = [DigestTaken(group.name, *claim) for claim in group.applying.watch.take_untold()]
        for peer in sorted(configuration.members - {self._own}):
            self._tell(peer, claims)
        _hand_over(group, configuration, self._own)
        self.moved(group)


def _hand_over(group: Group, configuration: Configuration, own: str) -> None:
    """A leader whose own state is the odd one lets somebody lead who is in the majority."""
    found = group.applying.watch.divergence
    if found is None or own not in found.odd or not group.raft.is_leader:
        return
    sound = [peer for peer in sorted(found.digests) if peer not in found.odd]
    match = group.status().match
    for target in sorted(sound, key=lambda peer: -match.get(peer, 0)):
        if configuration.votes(target):
            try:
                group.transfer_leadership(target)
            except Rejected as refusal:
                logger.info("group %s: leadership stays for now: %s", group.name, refusal)
            return
