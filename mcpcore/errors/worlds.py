"""What the simulator and experiments report."""

from __future__ import annotations

from mcpcore.errors.root import CoordinationError, Rejected


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


class ToolFailed(CoordinationError):
    """Something an experiment needs of this machine could not be done.

    Args:
        what: the command, or what was tried.
        place: the namespace or machine it was tried in.
        why: what the system said.
    """

    def __init__(self, what: str, place: str, why: str) -> None:
        self.what = what
        self.place = place
        self.why = why
        super().__init__(
            f"{what}, in {place}: {why}. Namespaces need root, `ip` and `iptables`; "
            "--isolation loopback needs none of them"
        )
