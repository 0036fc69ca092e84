"""Names for one effect: the idempotency token, and the fence that tells old attempts from new.

This module exists so that everybody who talks about an effect (engine, resource, operator) means
the same one. A *token* names an effect for ever, whoever attempts it and however often. A *fence*
orders the attempts. Pure: it must never store anything outside itself.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from mcpcore.errors import InvalidInput, StaleFence

TOKEN_DIGITS = 16


def idempotency_token(saga: str, action: str, resource_key: str) -> str:
    """The token of one action of one saga on one resource: ``saga:action:digits``.

    The digits are the first 16 hexadecimal ones of the SHA-256 of the resource key in UTF-8, so a
    long key costs a store no more than a short one.

    Raises:
        InvalidInput: a part is empty, or the action has a colon (two tokens could then be equal).
    """
    for part, name in ((saga, "saga"), (action, "action"), (resource_key, "resource key")):
        if not part:
            raise InvalidInput(f"a token needs a {name}", where=name)
    if ":" in action:
        raise InvalidInput(f"{action!r} has a colon, which parts a token", where="action")
    digest = hashlib.sha256(resource_key.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{saga}:{action}:{digest[:TOKEN_DIGITS]}"


class Fence(NamedTuple):
    """Where an attempt was announced: later attempts have greater fences, whoever makes them.

    With a Raft journal it is the log position (term, index) of the announcement, so it rises over
    all owners of all sagas. With SQLite, ``term`` counts the engines that opened the file.
    """

    term: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.term}.{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Fence:
        """The fence that ``str`` wrote.

        Raises:
            InvalidInput: it is none.
        """
        term, dot, sequence = text.partition(".")
        if not (dot and term.isascii() and term.isdigit()):
            raise InvalidInput(f"{text!r} is no fence", remedy="It looks like 3.1207")
        if not (sequence.isascii() and sequence.isdigit()):
            raise InvalidInput(f"{text!r} is no fence", remedy="It looks like 3.1207")
        return cls(int(term), int(sequence))


class FenceGate:
    """The resource's side: refuses whoever comes with an older fence than was seen.

    HAZARD: it protects only a resource whose every change passes the gate, in the same
    transaction. ``LocalEffects`` does both in a database.
    """

    __slots__ = ("_highest",)

    def __init__(self) -> None:
        self._highest: dict[str, Fence] = {}

    def admit(self, resource: str, fence: Fence) -> None:
        """Let an attempt pass; an equal fence is the same attempt, asking again.

        Raises:
            StaleFence: a later attempt was here.
        """
        highest = self._highest.get(resource)
        if highest is not None and fence < highest:
            raise StaleFence(resource, str(fence), str(highest))
        self._highest[resource] = fence
