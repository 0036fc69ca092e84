"""Every exception that a caller of mcpcore may want to catch.

This module exists so that one question, *may I retry?*, is answered by the class of the error and
by nothing else. It sits below every other module. It must never import any of them, nor anything
that acts on the outside world.

Facts live in attributes, so that nobody needs to parse a message; the message says what was wrong,
where, and what to do. A broken invariant of ours is an ``AssertionError`` and not in this list:
that is a bug, and no caller should catch it.
"""

from __future__ import annotations


class CoordinationError(Exception):
    """Root of everything mcpcore raises on purpose. Survives pickling with all its facts."""

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


# --- May I retry? -------------------------------------------------------------------------------


class Rejected(CoordinationError):
    """Nothing happened, and nothing will. Trying the same call again is always safe."""


class OutcomeUnknown(CoordinationError):
    """It may have happened, may happen later, or never. Retry only what is idempotent."""


class InvalidInput(CoordinationError, ValueError):
    """What was handed in cannot be used as it is; the same input will be refused again.

    Args:
        what: what was wrong.
        where: where it stands: a file and line, a field's path, an argument's name.
        remedy: what to do about it.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        text = f"{where}: {what}" if where else what
        super().__init__(f"{text}. {remedy}" if remedy else text)


# --- Groups -------------------------------------------------------------------------------------


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


# --- The key-value machine ----------------------------------------------------------------------


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


# --- The log on disk ----------------------------------------------------------------------------


class StorageBusy(Rejected):
    """More waits for the disk than the log device may hold; nothing of this call was kept.

    Check ``LogDevice.full`` before accepting work, and come back once it is false again.
    """

    def __init__(self, pending_bytes: int, pending_bytes_max: int) -> None:
        self.pending_bytes = pending_bytes
        self.pending_bytes_max = pending_bytes_max
        super().__init__(
            f"the log already holds {pending_bytes} bytes that wait for the disk (limit "
            f"{pending_bytes_max}); try again when the disk has caught up"
        )


class StorageClosed(Rejected):
    """The log device is closing or closed; nothing of this call was kept."""


class StorageInUse(Rejected):
    """Another process (or another device of this one) works on the same directory."""


class StorageFailed(OutcomeUnknown):
    """A write or a sync of the log failed, so the device works no more.

    What was on its way may or may not be on the disk: after a failed sync the operating system
    forgets what it could not write, so trying again would prove nothing. Stop the node, look at
    the disk, start it again: recovery reads what is really there.
    """


class StorageCorrupt(CoordinationError):
    """Bytes of the log that were once durable are gone or changed: rot, not a torn tail.

    Args:
        what: what is wrong.
        path: the file.
        offset: where in the file, in bytes.
    """

    def __init__(self, what: str, *, path: str, offset: int) -> None:
        self.what = what
        self.path = path
        self.offset = offset
        super().__init__(
            f"{path}, byte {offset}: {what}. Entries that this node acknowledged may be lost, so "
            "it must not vote with this log: restore the file from a backup, or let "
            "`mcpctl log repair` show what is left"
        )


class RecoveryRefused(Rejected):
    """A group is not recovered by force, and nothing was changed.

    Args:
        group: the group.
        why: what stands against it.
        remedy: what to do instead.
    """

    def __init__(self, group: str, why: str, remedy: str) -> None:
        self.group = group
        self.why = why
        self.remedy = remedy
        super().__init__(f"group {group}: {why}. {remedy}")


class StateMissing(Rejected):
    """This node's copy of the group's state is lost, and another member is sending a new one.

    Its log is whole, so nothing that it promised is in doubt; ask another node meanwhile.
    """

    def __init__(self, group: str) -> None:
        self.group = group
        super().__init__(
            f"group {group}: the state on this node is lost and being fetched; ask another node"
        )


class SnapshotDamaged(CoordinationError):
    """A snapshot file is not what was once written: never restore from it.

    Args:
        what: what is wrong.
        path: the file.
        offset: where in the file, in bytes.
    """

    def __init__(self, what: str, *, path: str, offset: int = 0) -> None:
        self.what = what
        self.path = path
        self.offset = offset
        super().__init__(
            f"{path}, byte {offset}: {what}. The snapshot cannot be used: a running member takes a "
            "new one or fetches it from the others; a backup must be replaced by another one"
        )


class StorageVersion(Rejected):
    """The log was written by another version of this program, in a format that it cannot read.

    Nothing is wrong with the log, and nothing was changed: run the version that wrote it.
    """


class WrongIdentity(InvalidInput):
    """The directory holds the log of another node or another cluster."""


# --- Talking over the network -------------------------------------------------------------------


class MalformedFrame(InvalidInput):
    """A frame's announced length is beyond what is accepted, so its sender cannot be understood.

    Args:
        header: the four bytes that stood where a length was expected.
        length: the length they announce, in bytes.
        limit: the longest payload accepted there, in bytes.
    """

    def __init__(self, header: bytes, length: int, limit: int) -> None:
        self.header = header
        self.length = length
        self.limit = limit
        if header[:2] == b"\x16\x03":
            remedy = "These are TLS bytes: the sender uses TLS, and here it is switched off"
        elif header.isascii() and header.strip().isalpha():
            remedy = f"It begins {header!r}: is something else, say HTTP, pointed at this port?"
        else:
            remedy = "Both sides need the same maximum frame size"
        super().__init__(
            f"a frame of {length} bytes is announced, at most {limit} are accepted", remedy=remedy
        )


class HandshakeRefused(Rejected):
    """One side of a new connection would not talk to the other. Nothing was sent or done.

    Args:
        code: why, in one word that programs may compare: see ``Parting`` in
            ``mcpcore.node.transport.handshake``.
        what: why, in words, with the facts of both sides.
    """

    def __init__(self, code: str, what: str) -> None:
        self.code = code
        self.what = what
        super().__init__(what)


class Unreachable(Rejected):
    """No connection came about, so nothing was asked of the other side.

    Args:
        address: who was called.
        why: what the network or TLS said.
    """

    def __init__(self, address: str, why: str) -> None:
        self.address = address
        self.why = why
        super().__init__(f"{address} cannot be reached: {why}")


# --- Clocks -------------------------------------------------------------------------------------


class TimestampTooFarAhead(Rejected):
    """A peer's timestamp lies too far in our future, so it was refused and our clock did not move.

    Either the peer's clock is wrong or ours is; the clock view says which one the majority
    believes. Trying again helps once that clock is right, and harms nothing before.
    """

    def __init__(self, peer: str, ahead_ns: int, limit_ns: int) -> None:
        self.peer = peer
        self.ahead_ns = ahead_ns
        self.limit_ns = limit_ns
        super().__init__(
            f"timestamp from {peer or 'an unnamed peer'}: {ahead_ns / 1e9:.3f} s ahead of our "
            f"clock, the limit is {limit_ns / 1e9:.3f} s. Check both clocks against the cluster's"
        )


class ClockCeilingReached(Rejected):
    """The clock may not pass the upper bound that is on disk, so no timestamp was issued.

    Store a later bound, then raise the clock's ceiling to it. A clock that went on would repeat
    its timestamps after a restart.
    """

    def __init__(self, wanted_ns: int, ceiling_ns: int) -> None:
        self.wanted_ns = wanted_ns
        self.ceiling_ns = ceiling_ns
        super().__init__(
            f"timestamp at {wanted_ns} ns: the stored upper bound is {ceiling_ns} ns. "
            "Store a later bound and raise the ceiling, then ask again"
        )


class ClockBoundMissing(Rejected):
    """A node that issued timestamps before came back without its stored upper bound.

    Restore the bound; or hand in the latest timestamp that any peer has seen from this node; or,
    only if the node never issued one, declare it fresh.
    """

    def __init__(self) -> None:
        super().__init__(
            "clock: no stored upper bound, and the node was not declared fresh. Restore the bound, "
            "or hand in the latest timestamp that any peer has seen from this node"
        )


class CommitWaitTooLong(Rejected):
    """Waiting until a timestamp has surely passed would take longer than the caller allows."""

    def __init__(self, wait_ns: int, limit_ns: int) -> None:
        self.wait_ns = wait_ns
        self.limit_ns = limit_ns
        super().__init__(
            f"commit wait: {wait_ns / 1e9:.6f} s left, at most {limit_ns / 1e9:.6f} s allowed. "
            "Look at the clock's uncertainty, or allow more"
        )


class ClockUncertain(Rejected):
    """No majority of clocks agrees, so nobody can tell what time it is. Look at the clock's health.

    Args:
        what: what needed the time.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"{what}: no majority of clocks agrees. Look at the clock's health")


# --- The simulator ------------------------------------------------------------------------------


class NotSimulated(Rejected, NotImplementedError):
    """Code in a simulated world asked for something that only the real world has.

    Args:
        call: the call that was refused, as the caller would write it.
        remedy: what to use instead.
    """

    def __init__(self, call: str, *, remedy: str = "") -> None:
        self.call = call
        self.remedy = remedy
        text = f"{call} has no simulation: it would reach the real world and undo determinism"
        super().__init__(f"{text}. {remedy}" if remedy else text)


class SimulationStuck(CoordinationError):
    """Virtual time cannot go on: everybody waits for nobody, or somebody never waits.

    Args:
        why: what was found.
        waiting: the tasks that wait, or the one that spins, named ``host/task``.
    """

    def __init__(self, why: str, *, waiting: tuple[str, ...] = ()) -> None:
        self.why = why
        self.waiting = waiting
        names = f": {', '.join(waiting)}" if waiting else ""
        super().__init__(f"{why}{names}")


class PropertyViolated(CoordinationError, AssertionError):
    """Something that a scenario promised did not hold.

    An ``AssertionError`` as well, so that every test runner counts it as a failed test.

    Args:
        name: the promise, as it was named.
        at_s: virtual seconds since the world began.
        found: what was the case instead.
    """

    def __init__(self, name: str, *, at_s: float, found: str) -> None:
        self.name = name
        self.at_s = at_s
        self.found = found
        super().__init__(f"{name}: {found}, at {at_s:.6f} s")


class NondeterminismFound(CoordinationError):
    """Two runs from one seed differed; something leaked in from the real world.

    Args:
        difference: the first event that differs, in both runs.
    """

    def __init__(self, difference: str) -> None:
        self.difference = difference
        super().__init__(f"two runs of the same seed differ; {difference}")


# --- Experiments --------------------------------------------------------------------------------


class NodeDied(CoordinationError):
    """A node's process ended when nobody had asked it to.

    Args:
        node: its name.
        status: its exit status, negative for a signal.
        last_words: the end of its log.
        log: the file of its log.
    """

    def __init__(self, node: str, status: int, last_words: str, log: str) -> None:
        self.node = node
        self.status = status
        self.last_words = last_words
        self.log = log
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        super().__init__(
            f"node {node} ended {how}; its log ({log}) ends: {last_words or '(empty)'}"
        )


class NotReady(CoordinationError):
    """A cluster of processes was not where an experiment needs it in time.

    Args:
        what: what was waited for.
        timeout_s: for how long.
        logs: the directory of the nodes' logs.
    """

    def __init__(self, what: str, timeout_s: float, logs: str) -> None:
        self.what = what
        self.timeout_s = timeout_s
        self.logs = logs
        super().__init__(
            f"{what} within {timeout_s:g} s. Is this machine very busy? The nodes' logs are in "
            f"{logs}"
        )


# --- Replicated data ----------------------------------------------------------------------------


class RightsExhausted(Rejected):
    """A bounded counter's replica does not hold the rights to spend or give that much.

    Nothing changed. Ask a replica that holds more to transfer some, then try again.
    """

    def __init__(self, replica: str, *, wanted: int, held: int) -> None:
        self.replica = replica
        self.wanted = wanted
        self.held = held
        super().__init__(
            f"{replica} holds rights for {held}, not for {wanted}; ask another replica for some"
        )


class DeltaRefused(Rejected):
    """A peer's delta was not joined, and the state is as it was.

    Args:
        peer: who sent it.
        why: which rule it broke.
    """

    def __init__(self, peer: str, why: str) -> None:
        self.peer = peer
        self.why = why
        super().__init__(f"delta from {peer} refused: {why}")


class ReplicaIdReused(DeltaRefused):
    """Two lives share one replica id; take a new incarnation before changing anything more."""


# --- Groups that are split ----------------------------------------------------------------------


class GroupReadOnly(Rejected):
    """This side of the group has no leader with a quorum, so it takes no writes. Nothing happened.

    Write to the side that has a quorum, or wait: service returns by itself once contact is back.
    Reads with a stated staleness are still served.

    Args:
        reason: why, as the verdict says it.
        since_ms: for how long.
        might_lead: who leads as far as this node was told; empty if nobody knows.
    """

    def __init__(self, group: str, reason: str, *, since_ms: int, might_lead: str = "") -> None:
        self.group = group
        self.reason = reason
        self.since_ms = since_ms
        self.might_lead = might_lead
        ask = f"try {might_lead}" if might_lead else "nobody here knows who leads"
        super().__init__(
            f"group {group}: read-only on this node for {since_ms / 1000:.1f} s: {reason}; {ask}, "
            "or read with a stated staleness"
        )


class StalenessNotPromised(Rejected):
    """How old the state here may be cannot be bounded as asked; nothing was read.

    Args:
        at_most_ms: what could be promised instead; None if nothing can.
        asked_ms: what was asked.
    """

    def __init__(self, group: str, *, asked_ms: int, at_most_ms: int | None, reason: str) -> None:
        self.group = group
        self.asked_ms = asked_ms
        self.at_most_ms = at_most_ms
        self.reason = reason
        instead = "no bound can" if at_most_ms is None else f"at most {at_most_ms} ms can"
        super().__init__(
            f"group {group}: a state at most {asked_ms} ms old cannot be promised, {instead}: "
            f"{reason}; ask another node, or allow more"
        )


class ReunionRefused(Rejected):
    """The gap is so large that an operator must approve the reunion; nothing was changed.

    Args:
        gap_entries: by how many entries the two sides differ.
        limit_entries: from how many on an operator decides.
    """

    def __init__(self, group: str, gap_entries: int, limit_entries: int) -> None:
        self.group = group
        self.gap_entries = gap_entries
        self.limit_entries = limit_entries
        super().__init__(
            f"group {group}: {gap_entries} entries lie between the two sides, from {limit_entries} "
            "on an operator decides: look at the plan and hand in an `Answer` to it"
        )


class QuarantineFull(CoordinationError):
    """Entries were truncated that the quarantine has no room for; only their number is on record.

    Export and discard what is there, then rewrite the file; raise the limit if this happens again.

    Args:
        count: how many were not kept.
        first_index: the first of them.
        limit_bytes: how large the file may be.
    """

    def __init__(self, count: int, first_index: int, limit_bytes: int) -> None:
        self.count = count
        self.first_index = first_index
        self.limit_bytes = limit_bytes
        super().__init__(
            f"quarantine: no room for {count} truncated entries from index {first_index} on within "
            f"{limit_bytes} bytes; export and discard what is there, or raise the limit"
        )


# --- Sagas --------------------------------------------------------------------------------------


class StepFailed(Rejected):
    """Raised by a saga's step: it failed for certain, it changed nothing, and it never will.

    The step is not tried again, and is not compensated. Any other error of a step leaves open
    whether it did something (unless it is another ``Rejected``, which may be tried again).
    """


class SagaExists(Rejected):
    """There is a saga with this id already, started from something else; nothing was started."""

    def __init__(self, saga: str, definition: str) -> None:
        self.saga = saga
        self.definition = definition
        super().__init__(
            f"saga {saga} exists already, of {definition}, with another input or definition; "
            "choose another id"
        )


class UnknownSaga(Rejected):
    """There is no saga with this id in the journal (any more)."""

    def __init__(self, saga: str) -> None:
        self.saga = saga
        super().__init__(f"there is no saga {saga} in this journal; see `mcpctl saga list`")


class DefinitionChanged(Rejected):
    """A saga was started from a definition that is not here, so it is left exactly as it is.

    Args:
        saga: its id.
        definition: the definition's name.
        wanted: the version it was started from. known: the versions that are here.
    """

    def __init__(self, saga: str, definition: str, wanted: str, known: tuple[str, ...]) -> None:
        self.saga = saga
        self.definition = definition
        self.wanted = wanted
        self.known = known
        here = f"here are {', '.join(known)}" if known else "no version of it is here"
        super().__init__(
            f"saga {saga} runs {definition} in version {wanted}; {here}. Give the engine that "
            "version too, or a Migration from it"
        )


class JournalMoved(Rejected):
    """Somebody else wrote to this saga's journal first; nothing was appended. Read it anew."""

    def __init__(self, saga: str, expected: int) -> None:
        self.saga = saga
        self.expected = expected
        super().__init__(
            f"saga {saga}: its journal no longer stands at {expected}, somebody else wrote first; "
            "read it again"
        )


class JournalUnavailable(OutcomeUnknown):
    """The journal does not answer: whether the append happened, a later read of it will tell."""


class JournalDamaged(CoordinationError):
    """Something in a saga's journal is no record, or contradicts what stands before it.

    Nothing was changed. Look at the saga with `mcpctl saga show`, restore the journal from a
    backup, or end the saga with `mcpctl saga resolve`.
    """

    def __init__(self, saga: str, what: str) -> None:
        self.saga = saga
        self.what = what
        super().__init__(f"journal of saga {saga}: {what}; restore it from a backup, or resolve it")


class EngineReplaced(Rejected):
    """Another engine works on this journal now, so this one does nothing more."""

    def __init__(self, where: str) -> None:
        self.where = where
        super().__init__(
            f"{where}: another engine was started on this journal and took its sagas over; "
            "one engine for each journal file"
        )


class EngineFull(Rejected):
    """So many sagas are under way that no other was started. Wait until some have ended."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"{limit} sagas are under way, the most this engine takes; try later")


class TargetUnavailable(Rejected):
    """A call was not made: its target's circuit is open, or too many calls to it are under way."""

    def __init__(self, target: str, why: str) -> None:
        self.target = target
        self.why = why
        super().__init__(f"target {target}: {why}; nothing was called")


class StaleFence(Rejected):
    """A later attempt has been here already: this one comes from an owner that was replaced."""

    def __init__(self, resource: str, fence: str, highest: str) -> None:
        self.resource = resource
        self.fence = fence
        self.highest = highest
        super().__init__(
            f"{resource}: fence {fence} is older than {highest}, which was here already; whoever "
            "holds it was replaced"
        )


class ResourceLocked(Rejected):
    """Another saga holds the semantic lock on a resource, and did not let go in time."""

    def __init__(self, resource: str, holder: str) -> None:
        self.resource = resource
        self.holder = holder
        super().__init__(f"{resource} is locked by saga {holder}; wait for it, or cancel it")


class SagaActionRefused(Rejected):
    """What an operator asked for cannot be done to a saga in its state; nothing was changed."""

    def __init__(self, saga: str, action: str, why: str) -> None:
        self.saga = saga
        self.action = action
        self.why = why
        super().__init__(f"saga {saga}: cannot {action}: {why}")


# --- Replicas -----------------------------------------------------------------------------------


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


def _rebuild(
    kind: type[CoordinationError], args: tuple[object, ...], facts: dict[str, object]
) -> CoordinationError:
    """Unpickle an error without calling its constructor, whose parameters are not its ``args``."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(facts)
    return error


# --- Policies -----------------------------------------------------------------------------------


class Unsupported(InvalidInput):
    """A foreign policy says something that is not carried over. Nothing of it was taken."""


class ExportRefused(InvalidInput):
    """The other system cannot say this without allowing more, so nothing was written.

    Args:
        dialect: which system.
        reasons: what it cannot say, a sentence each.
    """

    def __init__(self, dialect: str, reasons: tuple[str, ...]) -> None:
        self.dialect = dialect
        self.reasons = reasons
        super().__init__(
            f"{dialect} would allow more than this policy does: {'; '.join(reasons)}",
            where="export",
            remedy="Export with narrowing: permits that such a forbid may touch are left out",
        )


# --- Many groups on one node --------------------------------------------------------------------


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
