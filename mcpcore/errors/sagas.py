"""What sagas refuse or report."""

from __future__ import annotations

from mcpcore.errors.root import CoordinationError, OutcomeUnknown, Rejected


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
