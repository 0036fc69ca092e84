"""What replicated data and policies refuse."""

from __future__ import annotations

from mcpcore.errors.root import InvalidInput, Rejected


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
    """Two lives share one replica id; take a new incarnation before changing anything more.

    Args:
        replica: the id.
    """

    def __init__(self, peer: str, why: str, replica: str = "") -> None:
        self.replica = replica
        super().__init__(peer, why)


class DataNotWritable(Rejected):
    """Replicated data takes no change of ours at the moment. Nothing changed; try again later.

    Args:
        document: the name of the data.
        why: what stands in the way.
    """

    def __init__(self, document: str, why: str) -> None:
        self.document = document
        self.why = why
        super().__init__(f"{document} takes no changes: {why}; try again when that is mended")


class UnknownData(InvalidInput):
    """A node was asked for replicated data that it does not hold."""

    def __init__(self, document: str, node: str, known: tuple[str, ...]) -> None:
        self.document = document
        self.node = node
        super().__init__(
            f"{node} holds no replicated data {document!r}; it has: {', '.join(known) or 'none'}",
            remedy="Name it under replicated in the configuration of every member",
        )


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
