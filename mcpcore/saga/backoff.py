"""How often to try again, and when: retry policies, jitter, and a budget against retry storms.

This module exists so that nothing is tried again without end and a sick target is not beaten by
everybody at once. Pure: randomness is a number handed in, time too.

Source: M. Brooker 2015, "Exponential Backoff and Jitter" (full jitter); the retry budget is that of
Finagle: retries may be a share of the calls, plus a few a second.
"""

from __future__ import annotations

from dataclasses import dataclass

from mcpcore.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often and how patiently something is tried.

    Args:
        attempts: in all, the first one included. An attempt that a crash cut short counts.
        first_s: upper bound of the first pause.
        factor: by how much the bound grows with every failure.
        max_s: the bound grows no further.

    Raises:
        InvalidInput: a field makes no sense.
    """

    attempts: int = 3
    first_s: float = 0.1
    factor: float = 2.0
    max_s: float = 10.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise InvalidInput(f"{self.attempts} attempts are none", where="Retry.attempts")
        if not 0 <= self.first_s <= self.max_s < 1e9:
            raise InvalidInput(
                f"a first pause of {self.first_s} s and a longest of {self.max_s} s", where="Retry"
            )
        if not 1 <= self.factor <= 100:
            raise InvalidInput(f"a factor of {self.factor}", where="Retry.factor")

    def pause_s(self, failures: int, draw: float) -> float:
        """The pause after so many failures, in seconds.

        Args:
            failures: at least 1.
            draw: a random number in [0, 1).
        """
        assert failures >= 1
        assert 0 <= draw < 1
        bound = self.max_s
        if failures < 64:
            bound = min(self.max_s, self.first_s * self.factor ** (failures - 1))
        return draw * bound


NORMAL = Retry()
"""What steps get unless they say otherwise."""
ONCE = Retry(attempts=1)
"""A single attempt."""
PATIENT = Retry(attempts=8, first_s=0.2, max_s=30.0)
"""What compensations get unless they say otherwise: they should succeed in the end."""


class RetryBudget:
    """What share of the calls to one target may be retries.

    Args:
        ratio: retries earned by each call.
        per_s: retries earned by time alone.
        most: retries that can be saved up.
    """

    __slots__ = ("_at_ns", "_balance", "most", "per_s", "ratio")

    def __init__(self, *, ratio: float = 0.2, per_s: float = 5.0, most: float = 100.0) -> None:
        if min(ratio, per_s, most) < 0:
            raise InvalidInput("shares and rates are not negative", where="RetryBudget")
        self.ratio = ratio
        self.per_s = per_s
        self.most = most
        self._balance = min(most, 10.0)
        self._at_ns = 0

    @property
    def balance(self) -> float:
        """Retries that could be made now."""
        return self._balance

    def called(self) -> None:
        """A first attempt was made."""
        self._balance = min(self.most, self._balance + self.ratio)

    def withdraw(self, now_ns: int) -> bool:
        """Take one retry out; False if there is none."""
        if self._at_ns:
            earned = max(0, now_ns - self._at_ns) / 1e9 * self.per_s
            self._balance = min(self.most, self._balance + earned)
        self._at_ns = max(self._at_ns, now_ns)
        if self._balance < 1:
            return False
        self._balance -= 1
        return True

    def check(self) -> None:
        """Every promise this budget makes about itself."""
        assert 0 <= self._balance <= self.most
