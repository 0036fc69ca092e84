"""The key-value machine: what each command does to the store (in the manner of etcd's revisions).

This module exists so that every rule of the store, and every refusal, stands in one place and is
the same on every member. A revision is the log index of a change. Time never comes in: leases end
by command (see ``leases``). It must never read a clock, a file or a random source, and never raise
because of what a command holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import assert_never

from mcpcore.errors import InvalidInput
from mcpcore.node.kv.changes import apply_changes, write_changes
from mcpcore.node.kv.commands import (
    PUT_HEAD,
    CompareAndSet,
    Delete,
    DeletePrefix,
    Get,
    LeaseExpire,
    LeaseGet,
    LeaseGrant,
    LeaseRevoke,
    OtherCommand,
    Put,
    Request,
    Scan,
    Txn,
    decode_command,
    decode_request,
    read_put,
)
from mcpcore.node.kv.leases import LeaseTimer
from mcpcore.node.kv.records import (
    KEY_BYTES_MAX,
    Event,
    EventKind,
    KeyValue,
    KeyValueLimits,
    prefix_end,
)
from mcpcore.node.kv.results import (
    Deleted,
    Found,
    LeaseFound,
    LeaseGranted,
    LeasesEnded,
    NotSwapped,
    PutDone,
    RefusalCode,
    Refused,
    Result,
    Scanned,
    Swapped,
    TxnAnswer,
    TxnDone,
    encode_put_done,
    encode_result,
)
from mcpcore.node.kv.snapshot import read_snapshot, write_snapshot
from mcpcore.node.kv.store import Store
from mcpcore.node.kv.txn import holds, refuse_txn
from mcpcore.node.kv.watch import WatchHub
from mcpcore.node.machine import StateMachine

_PUT = EventKind.PUT
_DELETE = EventKind.DELETE
_new = tuple.__new__  # 0.2 us less than calling the class, twice per put


class KeyValueMachine(StateMachine):
    """Keys and values, with leases and watchers.

    ``watch`` and ``leases`` are this member's own, not replicated: who listens here, and how long
    the leases have left while this member leads.

    Args:
        limits: what is accepted; equal on all members of a group.
        watch: where changes are told.
        leases: what counts the leases.
    """

    __slots__ = ("_store", "leases", "watch")

    def __init__(
        self,
        limits: KeyValueLimits | None = None,
        *,
        watch: WatchHub | None = None,
        leases: LeaseTimer | None = None,
    ) -> None:
        self._store = Store(KeyValueLimits() if limits is None else limits)
        self.watch = WatchHub() if watch is None else watch
        self.leases = LeaseTimer() if leases is None else leases

    @property
    def revision(self) -> int:
        """The log index of the latest change; 0 if there was none."""
        return self._store.revision

    @property
    def limits(self) -> KeyValueLimits:
        """What this machine accepts."""
        return self._store.limits

    def __len__(self) -> int:
        return len(self._store)

    # --- the contract ---------------------------------------------------------------------------

    def apply(self, index: int, command: bytes) -> bytes:
        """Carry out one command and return its encoded ``Result``; see ``StateMachine.apply``."""
        assert index > self._store.revision, "the log rises"
        # Nearly all of a busy log are puts, so they have a way of their own, with no object for
        # command and result: a put takes 4 us instead of 6.
        if command.startswith(PUT_HEAD):
            put = read_put(command)
            if put is not None:
                return self._put(index, *put)
        try:
            decoded = decode_command(command)
        except InvalidInput as error:
            return encode_result(Refused(RefusalCode.MALFORMED, str(error)))
        if isinstance(decoded, Put):  # in an encoding that is longer than it need be
            return self._put(index, *decoded)
        return encode_result(self._apply(index, decoded))

    def query(self, request: bytes) -> bytes:
        """Answer a read with an encoded ``Result``; see ``StateMachine.query``."""
        try:
            decoded = decode_request(request)
        except InvalidInput as error:
            return encode_result(Refused(RefusalCode.MALFORMED, str(error)))
        return encode_result(self._read(decoded))

    def snapshot(self) -> Iterator[bytes]:
        """The state of this moment as chunks; see ``StateMachine.snapshot``."""
        return write_snapshot(self._store)

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Become what a snapshot holds; see ``StateMachine.restore``.

        The limits are the snapshot's from then on. Watchers that had not heard of everything up
        to the new revision end with ``Compacted``.

        Raises:
            InvalidInput: the bytes are no whole, sound snapshot. The old state stands.
        """
        self._become(read_snapshot(chunks))

    def adopt(self, other: StateMachine) -> None:
        """Take over the state of another machine at once; see ``Adopting`` and ``restore``."""
        assert isinstance(other, KeyValueMachine), "a group has one kind of machine"
        self._become(other._store)

    def changes_since(self, index: int) -> Iterator[bytes] | None:
        """What changed after a log index, deletions included; see ``Incremental``."""
        return write_changes(self._store, index)

    def apply_changes(self, chunks: Iterable[bytes]) -> None:
        """Become what changes lead to; see ``Incremental``.

        Raises:
            InvalidInput: the bytes are no sound changes of this very state. Use it no more.
        """
        apply_changes(self._store, chunks)
        self._become(self._store)

    def _become(self, store: Store) -> None:
        self._store = store
        self.leases.replace((id_, lease.ttl_ms) for id_, lease in store.leases.items())
        self.watch.restart(store.revision)

    def digest(self) -> bytes:
        """16 bytes over the state, its revision and its limits, at a constant cost."""
        return self._store.digest()

    def check(self) -> None:
        """Every promise that the state, the hub and the timer make about themselves."""
        self._store.check()
        self.watch.check()
        self.leases.check()
        assert self.watch.revision == self._store.revision, "the hub has heard everything"

    # --- commands -------------------------------------------------------------------------------

    def _apply(self, index: int, command: OtherCommand) -> Result:
        match command:
            case CompareAndSet():
                return self._compare_and_set(index, command)
            case Delete():
                return self._delete(index, command)
            case DeletePrefix():
                return self._delete_prefix(index, command)
            case LeaseGrant():
                return self._lease_grant(index, command)
            case LeaseRevoke(lease):
                if lease not in self._store.leases:
                    return _lease_unknown(lease)
                return self._end_leases(index, (lease,))
            case LeaseExpire(leases):
                return self._end_leases(index, leases)
            case Txn():
                return self._txn(index, command)
        assert_never(command)

    def _put(self, index: int, key: bytes, value: bytes, lease: int, want_previous: bool) -> bytes:
        store = self._store
        if lease or len(value) > store.limits.value_bytes or not 0 < len(key) <= KEY_BYTES_MAX:
            refused = self._refuse_put(key, value, lease)
            if refused is not None:
                return encode_result(refused)
        previous = store.get(key) if want_previous else None
        record, replaced = store.put(index, key, value, lease)
        self.watch.publish_one(index, _new(Event, (_PUT, record, replaced)))
        return encode_put_done(index, previous)

    def _compare_and_set(self, index: int, command: CompareAndSet) -> Result:
        key, expected, value, lease = command
        refused = self._refuse_put(key, b"" if value is None else value, lease)
        if refused is not None:
            return refused
        current = self._store.get(key)
        if expected is None:
            as_expected = current is None
        elif type(expected) is bytes:
            as_expected = current is not None and current.value == expected
        else:
            as_expected = expected == (0 if current is None else current.mod_revision)
        if not as_expected:
            return NotSwapped(self._store.revision, current)
        if value is not None:
            self._store_put(index, key, value, lease)
        elif current is not None:
            self._remove(index, (key,))
        return Swapped(self._store.revision)

    def _delete(self, index: int, command: Delete) -> Result:
        current = self._store.get(command.key)
        if current is None:
            return Deleted(self._store.revision, 0)
        self._remove(index, (command.key,))
        return Deleted(index, 1, current if command.want_previous else None)

    def _delete_prefix(self, index: int, command: DeletePrefix) -> Result:
        most = self._store.limits.range_records
        found = self._store.keys(command.prefix, prefix_end(command.prefix))
        keys = tuple(islice(found, most + 1))
        self._remove(index, keys[:most])
        return Deleted(self._store.revision, min(len(keys), most), None, len(keys) > most)

    def _txn(self, index: int, txn: Txn) -> Result:
        store = self._store
        refused = refuse_txn(txn, store, self._refuse_put)
        if refused is not None:
            return refused
        succeeded = all(holds(compare, store.get(compare.key)) for compare in txn.compare)
        answers: list[TxnAnswer] = []
        events: list[Event] = []
        for part in txn.then if succeeded else txn.otherwise:
            before = store.get(part.key)
            match part:
                case Put(key, value, lease, want_previous):
                    record, replaced = store.put(index, key, value, lease)
                    events.append(Event(_PUT, record, replaced))
                    answers.append(PutDone(index, before if want_previous else None))
                case Delete(key, want_previous):
                    if before is not None:
                        events.append(self._delete_one(index, key))
                    previous = before if want_previous else None
                    answers.append(Deleted(store.revision, int(before is not None), previous))
                case Get():
                    answers.append(Found(store.revision, before))
        if events:  # together, since a watcher hears of a revision as a whole or not at all
            self.watch.publish(index, tuple(events))
        return TxnDone(store.revision, succeeded, tuple(answers))

    def _lease_grant(self, index: int, command: LeaseGrant) -> Result:
        limits, ttl_ms = self._store.limits, command.ttl_ms
        if not 0 < ttl_ms <= limits.lease_ttl_ms:
            return Refused(
                RefusalCode.LEASE_TTL,
                f"a lease lives between 1 and {limits.lease_ttl_ms} ms, not {ttl_ms}",
            )
        if len(self._store.leases) >= limits.leases:
            return Refused(
                RefusalCode.LEASES_FULL,
                f"all {limits.leases} leases are taken; revoke some, or share one among keys",
            )
        self._store.add_lease(index, ttl_ms)
        self.leases.granted(index, ttl_ms)
        return LeaseGranted(index, ttl_ms)

    def _end_leases(self, index: int, leases: tuple[int, ...]) -> Result:
        held = self._store.leases
        ending = [lease for lease in dict.fromkeys(leases) if lease in held]
        # Sorted, since a set has its own order on every member.
        keys = [key for lease in ending for key in sorted(held[lease].keys)]
        self._remove(index, keys)
        for lease in ending:
            self._store.remove_lease(index, lease)
            self.leases.ended(lease)
        return LeasesEnded(self._store.revision, len(keys))

    def _store_put(self, index: int, key: bytes, value: bytes, lease: int) -> None:
        record, replaced = self._store.put(index, key, value, lease)
        self.watch.publish_one(index, Event(_PUT, record, replaced))

    def _remove(self, index: int, keys: Iterable[bytes]) -> None:
        events = tuple(self._delete_one(index, key) for key in keys)
        if events:
            self.watch.publish(index, events)

    def _delete_one(self, index: int, key: bytes) -> Event:
        old = self._store.delete(index, key)
        return Event(_DELETE, KeyValue(key, b"", 0, index, 0), old.mod_revision)

    def _refuse_put(self, key: bytes, value: bytes, lease: int) -> Refused | None:
        limits = self._store.limits
        if not 0 < len(key) <= KEY_BYTES_MAX:
            return Refused(
                RefusalCode.KEY_LENGTH,
                f"a key has 1 to {KEY_BYTES_MAX} bytes, not {len(key)}",
            )
        if len(value) > limits.value_bytes:
            return Refused(
                RefusalCode.VALUE_LENGTH,
                f"a value has at most {limits.value_bytes} bytes, not {len(value)}; "
                "split it, or store a reference",
            )
        if lease:
            held = self._store.leases.get(lease)
            if held is None:
                return _lease_unknown(lease)
            if len(held.keys) >= limits.lease_keys and key not in held.keys:
                return Refused(
                    RefusalCode.LEASE_KEYS_FULL,
                    f"{limits.lease_keys} keys hang on lease {lease} already; grant another one",
                )
        return None

    # --- reads ----------------------------------------------------------------------------------

    def _read(self, request: Request) -> Result:
        match request:
            case Get(key):
                return Found(self._store.revision, self._store.get(key))
            case Scan():
                return self._scan(request)
            case LeaseGet(lease):
                held = self._store.leases.get(lease)
                if held is None:
                    return _lease_unknown(lease)
                return LeaseFound(lease, held.ttl_ms, tuple(sorted(held.keys)))
            case _:
                return Refused(
                    RefusalCode.MALFORMED,
                    f"{type(request).__name__} is for the node to answer, not for the store",
                )

    def _scan(self, request: Scan) -> Result:
        limits, wanted = self._store.limits, request.limit
        if wanted < 0:
            return Refused(RefusalCode.MALFORMED, f"a limit of {wanted} records")
        most = min(wanted, limits.range_records) if wanted else limits.range_records
        found: list[KeyValue] = []
        size = 0
        for key in self._store.keys(request.start, request.end):
            record = self._store.get(key)
            assert record is not None, "every key has its record"
            if request.keys_only:
                record = record._replace(value=b"")
            size += len(key) + len(record.value)
            if len(found) == most or (found and size > limits.range_bytes):
                return Scanned(self._store.revision, tuple(found), key)
            found.append(record)
        return Scanned(self._store.revision, tuple(found), None)


def _lease_unknown(lease: int) -> Refused:
    return Refused(
        RefusalCode.LEASE_UNKNOWN, f"there is no lease {lease} (any more); grant a new one"
    )
