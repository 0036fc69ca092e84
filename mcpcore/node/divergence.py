"""Do replicas hold the same state? Digests at equal applied index in, a verdict out.

Equal logs give equal states, unless a machine is not deterministic, memory rots, or a bug of ours
says otherwise; then a replica goes on for ever with a state that nobody else has, and if it leads
it is believed (etcd #13766, #14849). This module exists so that such a replica is found, and judged
without presuming that anybody is right, the leader least of all: what more than half of the voters
hold stands, whoever differs from it is *odd*, and where no such majority exists nobody is believed.
It decides; it must never apply, send, or read a clock.

Why nobody serves reads while the voters differ and no majority holds one state: each answer would
be right with the chance of a coin, and a client cannot see that. What was committed is safe in the
logs, and comes back once the states agree again, or an operator removed or rebuilt a replica.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

EVERY_ENTRIES: Final = 4096
"""Every replica takes a digest at the multiples of this: under load they meet there."""
INDEXES_KEPT: Final = 32
"""Claims at more indexes than these are forgotten, the lowest first."""
WANTED_MAX: Final = 8
"""Indexes ahead of us at which others took a digest; more are not waited for."""
UNTOLD_MAX: Final = 4
"""Claims of ours that wait to be told; older ones are not worth the bytes."""
DIGEST_BYTES_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class Divergence:
    """Replicas that applied the same log and hold different states.

    Args:
        last_equal: the highest index at which the replicas concerned were seen equal; 0: never.
        first_unequal: the lowest one at which they were seen to differ. The cause lies between.
        index: where they were compared last.
        digests: what each replica said there, in hexadecimal digits.
        odd: who differs from what more than half of the voters hold; empty if there is no such
            majority.
    """

    last_equal: int
    first_unequal: int
    index: int
    digests: Mapping[str, str]
    odd: tuple[str, ...]

    def __str__(self) -> str:
        window = f"equal at index {self.last_equal or 'none'}, different at {self.first_unequal}"
        if self.odd:
            return f"{', '.join(self.odd)} differs from the majority: {window}"
        names = ", ".join(sorted(self.digests))
        return f"{names} differ, and no majority holds one state: {window}"


class StateWatch:
    """What one replica knows of its own state and of the others', index by index.

    Args:
        own: our name.
        every: a digest is due at every multiple of this index.
    """

    __slots__ = (
        "_agreed",
        "_claims",
        "_every",
        "_own",
        "_untold",
        "_wanted",
        "divergence",
        "newest",
        "next",
    )

    def __init__(self, own: str, *, every: int = EVERY_ENTRIES, applied: int = 0) -> None:
        self._own = own
        self._every = every
        self._claims: dict[int, dict[str, bytes]] = {}
        self._wanted: set[int] = set()
        self._agreed: dict[str, int] = {}
        self._untold: list[tuple[int, bytes]] = []
        self.divergence: Divergence | None = None
        self.newest: tuple[int, bytes] | None = None
        """Our latest own claim."""
        self.next = 0
        """The lowest index ahead at which to call ``mark``."""
        self.reached(applied)

    def reached(self, applied: int) -> None:
        """All up to ``applied`` is in the state; what was wanted below can be told no more."""
        self._wanted = {index for index in self._wanted if index > applied}
        self.next = min([applied - applied % self._every + self._every, *self._wanted])

    def want(self, index: int) -> None:
        """Somebody takes a digest at ``index``, which lies ahead: do the same on the way past."""
        if len(self._wanted) < WANTED_MAX:
            self._wanted.add(index)
            self.next = min(self.next, index)

    def mark(self, index: int, digest: bytes) -> None:
        """Our state at ``index``, applied just now."""
        self.newest = (index, digest)
        self._untold = [*self._untold[1 - UNTOLD_MAX :], self.newest]
        self._note(self._own, index, digest)
        self.reached(index)

    def take_untold(self) -> list[tuple[int, bytes]]:
        """Our claims since the last call, for the others to hear."""
        told, self._untold = self._untold, []
        return told

    def hear(self, member: str, index: int, digest: bytes, applied: int) -> bool:
        """Another replica's claim. Returns whether it can be (or become) of use here."""
        if index > applied:
            if len(self._wanted) >= WANTED_MAX and index not in self._wanted:
                return False
            self.want(index)
        elif self._own not in self._claims.get(index, ()):
            return False  # we went past without taking a digest
        self._note(member, index, digest)
        return True

    def forget(self) -> None:
        """Our state was made anew: what we said of it counts no more."""
        for claims in self._claims.values():
            claims.pop(self._own, None)
        self.newest, self._untold = None, []

    def _note(self, member: str, index: int, digest: bytes) -> None:
        self._claims.setdefault(index, {})[member] = digest
        while len(self._claims) > INDEXES_KEPT:
            del self._claims[min(self._claims)]

    # --- judging ---------------------------------------------------------------------------

    def judge(self, index: int, voters: Collection[str], members: Collection[str]) -> bool:
        """Compare what was said of ``index``. Returns whether ``divergence`` changed.

        Args:
            voters: whose majority stands.
            members: whose claims count at all: who was removed is asked no more.
        """
        told = {m: d for m, d in self._claims.get(index, {}).items() if m in members}
        before = self.divergence
        if len(told) < 2 or (before is not None and index < before.index):
            return False
        support = Counter(digest for member, digest in told.items() if member in voters)
        best, held = support.most_common(1)[0] if support else (b"", 0)
        settled = 2 * held > len(voters)
        if len(set(told.values())) == 1:
            return self._equal(index, told, members, settled)
        if all(self._agreed.get(member, 0) >= index for member in told):
            return False  # they have been seen equal since
        if not settled and before is not None and before.odd and not set(voters) <= told.keys():
            return False  # half a picture does not replace a whole one
        odd = tuple(sorted(m for m, d in told.items() if d != best)) if settled else ()
        for member in told.keys() - set(odd) if settled else ():
            self._agreed[member] = max(index, self._agreed.get(member, 0))
        if before is None:
            concerned = odd or tuple(told)
            last_equal = min(self._agreed.get(member, 0) for member in concerned)
            first = index
        else:
            last_equal, first = before.last_equal, before.first_unequal
        self.divergence = Divergence(
            last_equal, first, index, {m: d.hex() for m, d in sorted(told.items())}, odd
        )
        return before is None or (before.odd, before.index) != (odd, index)

    def _equal(
        self, index: int, told: Mapping[str, bytes], members: Collection[str], settled: bool
    ) -> bool:
        before = self.divergence
        if before is None or settled:
            for member in told:
                self._agreed[member] = max(index, self._agreed.get(member, 0))
        if before is None or not (before.digests.keys() & set(members)) <= told.keys():
            return False
        self.divergence = None
        return True

    def without(self, members: Collection[str]) -> bool:
        """Forget who is no member any more. Returns whether that ends the divergence."""
        found = self.divergence
        if found is None:
            return False
        left = {digest for member, digest in found.digests.items() if member in members}
        if len(left) > 1:
            return False
        self.divergence = None
        return True

    @property
    def doubt(self) -> str:
        """Why this replica must not answer from its state; empty if nothing speaks against it."""
        found = self.divergence
        if found is None or self._own not in found.digests:
            return ""
        if found.odd and self._own not in found.odd:
            return ""
        return str(found)
