"""Conversations as text: commands, a line of dashes, and what the group does, word for word.

This module exists so that a whole story can be read, and a change of behaviour is a diff that the
reviewer reads. It adds nothing to :class:`tests.raft.cluster.Cluster` but names for its verbs.

A file holds stanzas separated by blank lines::

    # Why the story is told.
    cluster a b c
    elect a
    ----
    a: candidate in term 1: a quorum would vote for me
    ...
    a  leader    term 1  commit 1  log 1

Commands (members are single words, times are milliseconds):

    cluster a b c          a new group, nobody leads; ``+d`` runs but is no member yet
    elect a                the others wait until a leads
    propose a x            a command; its fate shows in the table
    advance 500            time passes, everybody is heard
    pass 500               time passes, nothing is delivered
    deliver [Kind] [a>b]   letters of this kind on this link, or all letters, and what they lead to
    drop [Kind] [a>b]      lose them
    keep [Kind] [a>b]      put them aside; ``release`` posts them, ``copy`` as ``keep`` with a copy
    partition a | b c      cut all links between the sides
    cut a>b c>b            cut single directions
    heal                   all links work, over new connections
    crash a / restart a    what the disk does not hold is gone
    pause a / resume a     the process stands still
    disk-stall a / disk-ok a
    read a / lease-read a
    transfer a b
    change a +d ~e! -b     +d voter, ~e learner (!: promoted once caught up), -b removed;
                           ``joint`` for a joint change, ``stay`` for one that does not leave
    leave a                leave a joint change that does not leave by itself
    configuration a        show what a believes
    wipe c                 the disk of c is lost; ``restart`` brings it back empty
    compact a [3]          a takes a snapshot and drops the entries that it covers, but for so many
    bases                  show where each log begins
    mail                   show the letters on their way
"""

from __future__ import annotations

from mcpcore.errors import CoordinationError
from mcpcore.raft.membership import AddLearner, AddVoter, Change, Remove
from mcpcore.raft.outcome import MembershipNoticed
from mcpcore.raft.types import EntryKind, Member
from tests.raft.cluster import Cluster, Letter
from tests.raft.snapshotting import compact


class Conversation:
    """One file being played."""

    def __init__(self) -> None:
        self.cluster = Cluster("a")
        self.aside: list[Letter] = []
        self.said: list[str] = []
        self.told = 0
        self.answered: dict[str, int] = {}

    def play(self, commands: list[str]) -> list[str]:
        """The output of one stanza."""
        self.said = []
        for command in commands:
            verb, *words = command.split()
            action = getattr(self, "do_" + verb.replace("-", "_"), None)
            if action is None:
                raise ValueError(f"no such command: {command!r}")
            try:
                action(*words)
            except CoordinationError as error:
                self.said.append(f"{verb}: {type(error).__name__}: {error}")
            self._tell()
        return [*self.said, *self._table()]

    def _tell(self) -> None:
        for name, event in self.cluster.story[self.told :]:
            if isinstance(event, MembershipNoticed):
                self.said.append(f"{name}: member {event.member}: {event.what}")
                continue
            leader = f", follows {event.leader}" if event.leader not in ("", name) else ""
            what = f"{event.role.value} in term {event.term}{leader}"
            self.said.append(f"{name}: {what}: {event.reason}")
        self.told = len(self.cluster.story)
        for name, member in self.cluster.members.items():
            for answer in member.answers[self.answered.get(name, 0) :]:
                index = answer.read_index
                self.said.append(
                    f"{name}: may read at index {index}" if index else f"{name}: read not confirmed"
                )
            self.answered[name] = len(member.answers)

    def _table(self) -> list[str]:
        rows = []
        for name, member in self.cluster.members.items():
            state = member.raft.state
            role = state.role.value if member.up else "down"
            if name in self.cluster.paused:
                role = "paused"
            waiting = state.log.entries(state.handed + 1, state.log.last_index)
            words = [entry.data.decode() for entry in waiting if entry.kind == EntryKind.COMMAND]
            applied = b" ".join(self.cluster.commands(name)).decode()
            rows.append(
                f"{name}  {role:<13} term {state.term}  commit {state.commit}  "
                f"log {state.log.last_index}"
                + (f"  applied {applied}" if applied else "")
                + (f"  (waiting: {' '.join(words)})" if words else "")
            )
        return rows

    # --- commands ---

    def do_cluster(self, *names: str) -> None:
        joiners = "".join(name[1:] for name in names if name.startswith("+"))
        members = [name for name in names if not name.startswith("+")]
        self.cluster = Cluster(members, joiners=joiners, identities=bool(joiners))
        self.aside, self.told, self.answered = [], 0, {}

    def do_elect(self, name: str) -> None:
        self.cluster.elect(name)

    def do_propose(self, name: str, word: str) -> None:
        self.cluster.propose(name, word.encode())

    def do_advance(self, ms: str) -> None:
        self.cluster.settle()
        self.cluster.advance(float(ms))

    def do_pass(self, ms: str) -> None:
        self.cluster.advance(float(ms), settle=False)

    def do_deliver(self, *which: str) -> None:
        if not which:
            self.cluster.settle()
        for letter in self._chosen(which):
            self.cluster.deliver(self.cluster.mail.index(letter))

    def do_drop(self, *which: str) -> None:
        for letter in self._chosen(which):
            self.cluster.mail.remove(letter)

    def do_keep(self, *which: str) -> None:
        chosen = self._chosen(which)
        self.do_drop(*which)
        self.aside += chosen

    def do_copy(self, *which: str) -> None:
        self.aside += self._chosen(which)

    def do_release(self) -> None:
        self.cluster.mail += self.aside
        self.aside = []

    def do_partition(self, *words: str) -> None:
        self.cluster.partition(*[side.split() for side in " ".join(words).split("|")])

    def do_cut(self, *links: str) -> None:
        self.cluster.cut |= {(link[0], link[-1]) for link in links}

    def do_heal(self) -> None:
        self.cluster.heal()

    def do_crash(self, *names: str) -> None:
        for name in names:
            self.cluster.crash(name)

    def do_restart(self, *names: str) -> None:
        for name in names:
            self.answered[name] = 0
            self.cluster.members[name].answers.clear()
            self.cluster.restart(name)

    def do_pause(self, name: str) -> None:
        self.cluster.pause(name)

    def do_resume(self, name: str) -> None:
        self.cluster.resume(name)

    def do_disk_stall(self, name: str) -> None:
        self.cluster.stalled.add(name)

    def do_disk_ok(self, name: str) -> None:
        self.cluster.stalled.discard(name)
        self.cluster.complete(name, len(self.cluster.members[name].disk.pending))

    def do_read(self, name: str) -> None:
        self.cluster.read(name)

    def do_lease_read(self, name: str) -> None:
        self.said.append(f"{name}: reads at index {self.cluster.lease_read(name)} by its lease")

    def do_transfer(self, name: str, target: str) -> None:
        self.cluster[name].transfer_leadership(target, self.cluster.clock_ns(name))
        self.cluster.drain(name)

    def do_change(self, name: str, *words: str) -> None:
        wanted: list[Change] = []
        how = {"joint": True} if "joint" in words else {}
        if "stay" in words:
            how["auto_leave"] = False
        for word in words:
            if word[0] == "+":
                wanted.append(AddVoter(word[1:]))
            elif word[0] == "~":
                promote = word.endswith("!")
                wanted.append(AddLearner(word[1:].rstrip("!"), Member(promote=promote)))
            elif word[0] == "-":
                wanted.append(Remove(word[1:]))
        self.cluster.change(name, *wanted, **how)

    def do_leave(self, name: str) -> None:
        self.cluster[name].leave_joint(self.cluster.clock_ns(name))
        self.cluster.drain(name)

    def do_configuration(self, *names: str) -> None:
        for name in names:
            configuration = self.cluster[name].state.configuration
            self.said.append(f"{name}: believes in {str(configuration) or 'nobody'}")

    def do_wipe(self, name: str) -> None:
        self.answered[name] = 0
        self.cluster.members[name].answers.clear()
        self.cluster.wipe(name)

    def do_compact(self, name: str, trailing: str = "0") -> None:
        compact(self.cluster, name, int(trailing))

    def do_bases(self) -> None:
        for name, member in self.cluster.members.items():
            log = member.raft.state.log
            self.said.append(f"{name}: log after {log.base.index}, {len(log)} entries")

    def do_mail(self) -> None:
        for letter in self.cluster.mail:
            message = letter.message
            facts = " ".join(
                f"{field}={value}"
                for field, value in zip(message._fields, message, strict=True)
                if field not in ("promise_ns", "sent_ns", "head", "data", "checksum", "facts")
            )
            self.said.append(f"{letter.sender}>{letter.to} {type(message).__name__} {facts}")

    def _chosen(self, which: tuple[str, ...]) -> list[Letter]:
        kinds = {word for word in which if ">" not in word}
        links = {word for word in which if ">" in word}
        return [
            letter
            for letter in self.cluster.mail
            if (not kinds or type(letter.message).__name__ in kinds)
            and (not links or f"{letter.sender}>{letter.to}" in links)
        ]


def replay(text: str) -> str:
    """The same conversation with the output that the group gives today."""
    conversation, stanzas = Conversation(), []
    for stanza in text.strip().split("\n\n"):
        asked = stanza.split("----")[0].strip().splitlines()
        commands = [line for line in asked if line.strip() and not line.startswith("#")]
        if not commands:
            stanzas.append("\n".join(asked))
            continue
        stanzas.append("\n".join([*asked, "----", *conversation.play(commands)]))
    return "\n\n".join(stanzas) + "\n"
