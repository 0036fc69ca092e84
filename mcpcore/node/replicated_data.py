"""Replicated data on a node: CRDTs by name, over the node's own connections, on its own disk.

This module exists so that what needs no agreement needs no quorum: each side of a cut goes on
changing and merging, durably, whatever the groups beside it can do. Frames are notes (see
``notes``), so peers that speak only version 1 of the protocol are told nothing. All data of a node
shares one token bucket per peer. It must never know what the data means.

A change leaves for the peers at once and is acknowledged when it is durable here; see
``replicated_file`` for why that is safe.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from mcpcore.crdt import Causal, Cells, encode, replica_id
from mcpcore.crdt.anti_entropy import AntiEntropy, State
from mcpcore.crdt.budget import Budget, TokenBucket
from mcpcore.crdt.guard import Authorise, anybody
from mcpcore.crdt.view import CausalView, CellsView
from mcpcore.errors import DataNotWritable, InvalidInput, UnknownData
from mcpcore.node.anti_entropy import Replicator
from mcpcore.node.data_config import MESSAGE_OVERHEAD_BYTES, DataConfig
from mcpcore.node.disk import Disk
from mcpcore.node.notes import NOTES_PER_FRAME, NOTES_SINCE, Note, Said
from mcpcore.node.replicated_file import ReplicaFile
from mcpcore.node.transport.identity import check_name

logger = logging.getLogger("mcpcore.node.replicated")

_FRAME_BYTES: Final = 1 << 20
_ID_BITS: Final = 31

V = TypeVar("V", bound=CausalView | CellsView)


class ReplicatedData:
    """One piece of data on this node. Made by :class:`DataHub`."""

    def __init__(self, name: str, config: DataConfig, file: ReplicaFile) -> None:
        self.name = name
        self.config = config
        self._file = file
        self._replicator: Replicator | None = None
        self._closed = False
        self.listeners: list[Callable[[State], object]] = []
        """Called with everything that is new, ours and theirs, already joined; must be quick."""

    # --- using it -------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """The state. Read it, or have views on it; change it through :meth:`change` alone."""
        return self._running.engine.state

    @property
    def replica(self) -> str:
        """The id under which this node changes it now."""
        return self._running.engine.replica

    def view(self, kind: type[V]) -> V:
        """A typed look at the state.

        Raises:
            InvalidInput: this type does not fit the kind of state.
        """
        if issubclass(kind, CellsView) is not self.config.grows_only:
            raise InvalidInput(
                f"a {kind.__name__} does not fit",
                where=f"replicated data {self.name}",
                remedy="grows_only in its configuration says which types do",
            )
        return kind(self.state)  # type: ignore[arg-type]

    def change(self, mutate: Callable[[str], State]) -> asyncio.Future[None]:
        """Change it: ``mutate`` is given the replica id and returns a mutator's delta.

        The change is in force here at once, and on its way to the peers. The future is done when a
        crash of this node cannot take it back; it fails with ``StorageFailed`` if the disk does not
        take it. Nobody has to wait for it.

        Raises:
            DataNotWritable: nothing was changed, and why.
        """
        self._refuse_if_not_writable()
        delta = mutate(self.replica)
        done = self._file.append(delta)
        self._running.changed(delta)
        self._tell(delta)
        return done

    @property
    def told(self) -> dict[str, Any]:
        """What each other member has last said to have seen, as causal contexts."""
        return dict(self._running.engine.told)

    @property
    def peers(self) -> list[str]:
        """The other members."""
        return self._running.engine.peers

    def status(self) -> dict[str, Any]:
        """In plain values, as ``mcpctl status`` shows it."""
        engine = self._running.engine
        return {
            "replica": engine.replica,
            "entries": _size(engine.state),
            "members": engine.peers,
            "buffered_bytes": engine.buffered_bytes,
            "refused": self._running.refused,
            "problem": self._file.problem,
        }

    # --- for the hub ----------------------------------------------------------------------------

    @property
    def _running(self) -> Replicator:
        assert self._replicator is not None, "the data is not open"
        return self._replicator

    def _refuse_if_not_writable(self) -> None:
        if self._closed:
            raise DataNotWritable(self.name, "this node is stopping")
        if self._file.problem:
            raise DataNotWritable(self.name, f"the disk fails: {self._file.problem}")
        if self._file.full:
            raise DataNotWritable(self.name, "too much waits for the disk")
        if _size(self.state) >= self.config.entries_max:
            raise DataNotWritable(self.name, f"it holds {self.config.entries_max} entries")

    def _tell(self, news: State) -> None:
        for listener in self.listeners:
            listener(news)

    def _heard(self, news: State) -> None:
        self._file.append(news)
        self._tell(news)

    def shed(self, lose: Callable[[], object]) -> None:
        """Have something taken out of the state that all members take out by themselves."""
        lose()
        self._running.engine.reshaped()
        self._file.rewrite(self.replica)


class DataHub:
    """All replicated data of one node.

    Args:
        node: our name.
        directory: where the files lie.
        budget: what may leave for one peer, for all data together.
        tell: sends notes to a peer; they may get lost.
        version: the protocol version spoken with a peer; 0 while there is no connection.
        physical_ns: the node's clock, against which timestamps from the future are refused.
        rng: where replica ids and session numbers come from.
    """

    def __init__(
        self,
        node: str,
        disk: Disk,
        directory: str,
        *,
        budget: Budget,
        tell: Callable[[str, Sequence[Note]], object],
        version: Callable[[str], int],
        physical_ns: Callable[[], int],
        rng: random.Random,
    ) -> None:
        self._node = node
        self._disk = disk
        self._directory = f"{directory}/replicated"
        self._budget = budget
        self._tell = tell
        self._version = version
        self._physical_ns = physical_ns
        self._rng = rng
        self._buckets: dict[str, TokenBucket] = {}
        self._data: dict[str, ReplicatedData] = {}
        self._outbox: dict[str, list[Said]] = {}
        self._flush_is_due = False
        self.unknown_messages = 0
        """Messages about data that is not here."""

    def __iter__(self) -> Iterator[ReplicatedData]:
        return iter(self._data.values())

    def data(self, name: str) -> ReplicatedData:
        """A piece of data by its name.

        Raises:
            UnknownData: it is not here.
        """
        found = self._data.get(name)
        if found is None:
            raise UnknownData(name, self._node, tuple(sorted(self._data)))
        return found

    async def open(
        self,
        name: str,
        config: DataConfig,
        peers: Iterable[str],
        *,
        authorise: Authorise = anybody,
        erases: bool = True,
    ) -> ReplicatedData:
        """Read a piece of data from the disk, and take part in it from now on.

        Raises:
            InvalidInput: a name that cannot be used, or used already.
            OSError: the disk does not work.
        """
        check_name(name, "replicated data")
        if name in self._data:
            raise InvalidInput(f"{name} is open already", where="replicated data")
        if not self._disk.exists(self._directory):
            self._disk.make_dirs(self._directory)
        kind: type[State] = Cells if config.grows_only else Causal
        file = ReplicaFile(self._disk, f"{self._directory}/{name}", lambda: encode(data.state))
        data = ReplicatedData(name, config, file)
        found = file.recover()
        state = found.state
        if state is not None and type(state) is not kind:
            raise InvalidInput(
                f"the file holds a {type(state).__name__}, and the configuration means a "
                f"{kind.__name__}",
                where=f"replicated data {name}",
                remedy="Say grows_only as it was, or choose another name",
            )

        def allowed(peer: str, delta: State) -> str:
            if _size(data.state) + _size(delta) > config.entries_max:
                return f"{name} would hold more than {config.entries_max} entries"
            return authorise(peer, delta)

        engine = AntiEntropy(
            found.replica if found.clean else self._fresh_id(),
            kind.bottom() if state is None else state,
            peers=[peer for peer in peers if peer != self._node],
            session=self._rng.getrandbits(62),
            now_ns=Replicator.now_ns(),
            limits=replace(config.limits, overhead_bytes=MESSAGE_OVERHEAD_BYTES),
            authorise=allowed,
            bucket=self._bucket,
            erases=erases,
        )
        for peer in engine.peers:
            engine.disconnected(peer)

        def renew() -> None:
            engine.replica = self._fresh_id()
            file.rewrite(engine.replica)
            logger.warning("%s: goes on as replica %s", name, engine.replica)

        data._replicator = replicator = Replicator(
            engine,
            lambda peer, message: self._post(peer, Said(name, message)),
            on_news=data._heard,
            wall_ns=self._physical_ns,
            on_reused=renew,
        )
        await file.begin(engine.replica)
        self._data[name] = data
        replicator.start()
        for peer in engine.peers:
            if self._version(peer) >= NOTES_SINCE:
                replicator.connected(peer)
        return data

    def set_members(self, name: str, members: Iterable[str]) -> None:
        """Other nodes hold a piece of data from now on."""
        replicator = self.data(name)._running
        before = set(replicator.engine.peers)
        replicator.engine.set_peers(member for member in members if member != self._node)
        for peer in replicator.engine.peers:
            if peer not in before:
                replicator.engine.disconnected(peer)
                if self._version(peer) >= NOTES_SINCE:
                    replicator.connected(peer)

    async def release(self, name: str) -> None:
        """Have nothing more to do with a piece of data, and drop its file.

        Raises:
            UnknownData: it is not here.
            OSError: the disk does not work.
        """
        data = self.data(name)
        del self._data[name]
        data._closed = True
        data._running.stop()
        await data._file.close()
        data._file.remove()

    async def close(self) -> None:
        """Say nothing more, and make everything durable."""
        for data in self._data.values():
            data._closed = True
            data._running.stop()
        await asyncio.gather(*(data._file.close() for data in self._data.values()))

    # --- what the transport tells ---------------------------------------------------------------

    def connected(self, peer: str) -> None:
        """A session with a peer begins."""
        if self._version(peer) >= NOTES_SINCE:
            for data in self._data.values():
                data._running.connected(peer)

    def disconnected(self, peer: str) -> None:
        """A session with a peer is over."""
        self._outbox.pop(peer, None)
        for data in self._data.values():
            data._running.disconnected(peer)

    def heard(self, peer: str, said: Said) -> None:
        """A peer says something about a piece of data."""
        data = self._data.get(said.document)
        if data is None:
            self.unknown_messages += 1
        else:
            data._running.on_message(peer, said.message)

    # --- inside ---------------------------------------------------------------------------------

    def _fresh_id(self) -> str:
        return replica_id(self._node, 1 + self._rng.getrandbits(_ID_BITS))

    def _bucket(self, peer: str) -> TokenBucket:
        bucket = self._buckets.get(peer)
        if bucket is None:
            bucket = self._buckets[peer] = TokenBucket(self._budget, Replicator.now_ns())
        return bucket

    def _post(self, peer: str, said: Said) -> None:
        """Messages to one peer within one turn of the loop travel together."""
        self._outbox.setdefault(peer, []).append(said)
        if not self._flush_is_due:
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        outbox, self._outbox = self._outbox, {}
        for peer, letters in outbox.items():
            group: list[Said] = []
            size = 0
            for said in letters:
                if group and (
                    size + len(said.message) > _FRAME_BYTES or len(group) == NOTES_PER_FRAME
                ):
                    self._tell(peer, group)
                    group, size = [], 0
                group.append(said)
                size += len(said.message)
            self._tell(peer, group)


def _size(state: State) -> int:
    return len(state.numbers) if isinstance(state, Cells) else len(state.entries)
