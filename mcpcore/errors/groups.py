"""What a group refuses, or cannot answer for."""

from __future__ import annotations

from mcpcore.errors.root import CoordinationError, InvalidInput, OutcomeUnknown, Rejected


class NotLeader(Rejected):
    """This node does not lead the group, so nothing was appended or read.

    Ask ``leader`` instead; if it is None an election is under way, so wait one election timeout
    before asking again.
    """

    def __init__(self, group: str, leader: str | None) -> None:
        self.group = group
        self.leader = leader
        where = f"ask {leader}" if leader else "no leader is known, try again shortly"
        super().__init__(f"group {group}: not the leader here, {where}")


class GroupInDoubt(Rejected):
    """So many members lost part of their logs that nobody may lead without inventing the rest.

    Nothing was appended or read. Members whose disks are sound, if there are more, must come back;
    otherwise an operator must decide what is kept.

    Args:
        group: the group.
        why: what is missing, who was asked, and what to do.
    """

    def __init__(self, group: str, why: str) -> None:
        self.group = group
        self.why = why
        super().__init__(f"group {group}: {why}")


class TransferUnderWay(Rejected):
    """Leadership is being handed over; the new leader will accept the proposal in a moment."""

    def __init__(self, group: str, target: str) -> None:
        self.group = group
        self.target = target
        super().__init__(f"group {group}: leadership is being handed to {target}, try again there")


class TransferRefused(Rejected):
    """Leadership cannot be handed to this target."""

    def __init__(self, group: str, target: str, reason: str) -> None:
        self.group = group
        self.target = target
        self.reason = reason
        super().__init__(f"group {group}: leadership cannot go to {target}: {reason}")


class ChangeRefused(Rejected):
    """A change of membership was not begun; the group is as it was.

    Args:
        group: the group, or empty where a configuration was looked at without one.
        reason: which rule stands against it, with the facts.
        remedy: what to do instead, if there is something.
    """

    def __init__(self, group: str, reason: str, remedy: str = "") -> None:
        self.group = group
        self.reason = reason
        self.remedy = remedy
        text = f"group {group}: {reason}" if group else reason
        super().__init__(f"{text}. {remedy}" if remedy else text)


class ChangePending(ChangeRefused):
    """Not now: another change is under way, or this leader is too new. It passes by itself."""


class LearnerBehind(ChangeRefused):
    """The learner holds too little of the log to vote; as a voter it would hold the group up.

    Args:
        learner: its name.
        behind: entries it lacks.
        rounds: full rounds of catching up so far (thesis section 4.2.1).
    """

    def __init__(self, group: str, learner: str, behind: int, rounds: int) -> None:
        self.learner = learner
        self.behind = behind
        self.rounds = rounds
        super().__init__(
            group,
            f"learner {learner} lacks {behind} entries after {rounds} rounds of catching up",
            "Wait until it has caught up, or force the promotion and accept that commits may wait "
            "for it",
        )


class ProposalTooLarge(Rejected):
    """The command is larger than the group accepts. Sending it again will not help; split it."""

    def __init__(self, group: str, size_bytes: int, limit_bytes: int) -> None:
        self.group = group
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes
        super().__init__(
            f"group {group}: a command of {size_bytes} bytes exceeds the limit of {limit_bytes}; "
            "split it, or store the value elsewhere and propose its name"
        )


class QueueFull(Rejected):
    """A bounded queue has no room. Wait for some answers before sending more."""

    def __init__(self, group: str, queue: str, limit: int) -> None:
        self.group = group
        self.queue = queue
        self.limit = limit
        super().__init__(
            f"group {group}: the queue of {queue} is full ({limit}); wait for answers, then retry"
        )


class LeaseUnavailable(Rejected):
    """A lease read cannot be promised right now. A linearizable read still can."""

    def __init__(self, group: str, reason: str) -> None:
        self.group = group
        self.reason = reason
        super().__init__(f"group {group}: no lease: {reason}; use a linearizable read")


class Superseded(Rejected):
    """Another leader's entry was committed in the place of this proposal, which is gone."""

    def __init__(self, group: str, index: int) -> None:
        self.group = group
        self.index = index
        super().__init__(
            f"group {group}: the proposal at index {index} lost its place to a newer leader's "
            "entry and will never take effect; propose it again"
        )


class ReadNotConfirmed(Rejected):
    """No quorum confirmed the leader while the read waited; nothing was read."""

    def __init__(self, group: str) -> None:
        self.group = group
        super().__init__(
            f"group {group}: no quorum confirmed the leader in time; try again, or read with a "
            "stated staleness"
        )


class NotPermitted(Rejected):
    """The certificate of the caller does not allow this."""

    def __init__(self, action: str, caller: str) -> None:
        self.action = action
        self.caller = caller
        super().__init__(
            f"{caller} may not {action}: that needs an administrator's certificate "
            "(`mcpctl certs add DIR --admin NAME`)"
        )


class SessionExpired(Rejected):
    """The cluster no longer remembers this client's session, and nothing was applied.

    Open a new session. A command that was sent before and never answered is another matter: its
    outcome is unknown, and the client raises ``OutcomeUnknown`` for it.
    """


class ConnectionLost(OutcomeUnknown):
    """The connection to a node broke after a request had left and before its answer came."""

    def __init__(self, address: str, why: str) -> None:
        self.address = address
        self.why = why
        super().__init__(f"{address}: {why}")


class ClusterUnavailable(Rejected):
    """No node could do it in time, and nothing happened."""

    def __init__(self, group: str, last: str) -> None:
        self.group = group
        self.last = last
        super().__init__(
            f"group {group}: no node could answer in time. Last: {last}. "
            "Look at `mcpctl status`, then try again"
        )


class GroupFailed(Rejected):
    """A group is out of service on this node, since code raised where it must not. A bug.

    Other members may still serve; the node's log and its status say what was raised.
    """

    def __init__(self, group: str, fault: str) -> None:
        self.group = group
        self.fault = fault
        super().__init__(
            f"group {group}: out of service on this node after {fault}; ask another node, and "
            "look into this one's log before starting it again"
        )


class MachineFault(Rejected):
    """The state machine raised while it answered a read; nothing was read, nothing changed."""

    def __init__(self, group: str, fault: str) -> None:
        self.group = group
        self.fault = fault
        super().__init__(f"group {group}: the state machine raised {fault}; that is a bug in it")


class UnknownGroup(InvalidInput):
    """This node takes no part in such a group; another node may."""

    def __init__(self, group: str, node: str, known: tuple[str, ...]) -> None:
        self.group = group
        self.node = node
        super().__init__(f"no group {group!r} on {node}; known: {', '.join(known) or 'none'}")


class AnswerTooLarge(Rejected):
    """The answer to a read is longer than a frame may be. Ask for less at a time.

    Args:
        size_bytes: how long it is.
        limit_bytes: how long it may be.
    """

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes
        super().__init__(
            f"the answer has {size_bytes} bytes, a frame at most {limit_bytes}; ask for less at a "
            "time, or raise max_frame_bytes on nodes and clients"
        )


class WatchOverrun(Rejected):
    """Events came faster than the program took them, so the watch was ended; none was skipped.

    Watch again from the last event that was taken.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        super().__init__(
            f"more than {limit_bytes} bytes of events waited to be taken; watch again from the "
            "last event, and take events faster"
        )


class ProtocolViolation(CoordinationError):
    """A peer sent what no correct peer sends; its connection is closed and our state unharmed."""


class CommandRefused(Rejected):
    """The store refused a command, on every node alike; in the same state it would again."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


class WatchCompacted(Rejected):
    """Changes that a watch asked for are no longer kept."""

    def __init__(self, after_revision: int, oldest_revision: int) -> None:
        self.after_revision = after_revision
        self.oldest_revision = oldest_revision
        super().__init__(
            f"changes after revision {after_revision} are no longer kept, the oldest start after "
            f"{oldest_revision}; read the state anew and watch from its revision"
        )


class ReplicaInDoubt(Rejected):
    """Replicas of the group hold different states, and nothing vouches for this node's.

    Another node may answer. `mcpctl status` names the replicas and the window of the log in which
    they went apart.
    """

    def __init__(self, group: str, doubt: str) -> None:
        self.group = group
        self.doubt = doubt
        super().__init__(
            f"group {group}: this node's state is in doubt: {doubt}. Ask another node, and see "
            "`mcpctl status`"
        )


class NoSpace(QueueFull):
    """The disk of this node is full, so nothing was accepted. Reads go on.

    Free space, or ask another node; writes go on by themselves once there is space.
    """

    def __init__(self, group: str) -> None:
        self.group = group
        self.queue = "entries for the disk"
        self.limit = 0
        Rejected.__init__(
            self,
            f"group {group}: no space is left on this node's disk, so it takes no writes; reads go "
            "on, and writes will by themselves once there is space",
        )


class GroupExists(InvalidInput):
    """A group of that name is here already, with other members or settings."""
