"""Faults as data: what goes wrong, when, where and for how long.

This module exists so that a schedule of faults can be written by hand, read from a file, drawn by
Hypothesis, shrunk, printed in a bug report and carried out by another executor than the simulator.
It says what a fault *is*; :mod:`mcpcore.sim.faults` says how a world carries it out.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from mcpcore.errors import InvalidInput
from mcpcore.sim.entropy import stream


@dataclass(frozen=True, slots=True)
class Kind:
    """What a kind of fault needs, and what its ``value`` means."""

    says: str
    needs_to: bool = False
    value: str = ""
    usual: tuple[float, float] = (0.0, 0.0)
    lasts: bool = True


KINDS: dict[str, Kind] = {
    # the network
    "partition": Kind("hosts `on` cannot talk to hosts `to` (empty: to all others)"),
    "one_way": Kind("nothing passes from `on` to `to`; the way back is open", needs_to=True),
    "isolate": Kind("each host in `on` is cut off from everybody"),
    "bridge": Kind("the others fall into two halves; only `on` sees both"),
    "majority_ring": Kind("every host sees a majority, and no two see the same"),
    "flapping": Kind("a partition that comes and goes", value="seconds each way", usual=(0.2, 3.0)),
    "clog": Kind("what goes from `on` to `to` is held until the end", needs_to=True),
    "slow_link": Kind("packets take longer", value="milliseconds more", usual=(5.0, 500.0)),
    "lossy": Kind("packets are lost", value="chance", usual=(0.01, 0.5)),
    "bursty": Kind("packets are lost in bursts", value="chance", usual=(0.01, 0.2)),
    "duplicate": Kind("datagrams arrive twice", value="chance", usual=(0.05, 0.5)),
    "reorder": Kind("datagrams overtake each other", value="chance", usual=(0.05, 0.8)),
    "fragment": Kind("streams arrive in smaller pieces", value="chance", usual=(0.1, 1.0)),
    "narrow": Kind("bandwidth is limited", value="bits per second", usual=(64_000.0, 10_000_000.0)),
    "mtu_hole": Kind("large datagrams vanish", value="largest bytes", usual=(100.0, 1_400.0)),
    "reset": Kind("open connections between `on` and `to` are reset", lasts=False),
    # machines and processes
    "crash": Kind("power is cut; restarted at the end"),
    "kill": Kind("the process dies, the machine lives; restarted at the end"),
    "pause": Kind("the process is stopped, as by SIGSTOP"),
    "suspend": Kind("the machine sleeps; its monotonic clock stands still"),
    "slow": Kind("code runs slowly", value="microseconds per step", usual=(50.0, 5_000.0)),
    "wipe": Kind("power is cut and the disk lost; restarted, empty, at the end"),
    # clocks
    "clock_step": Kind("the wall clock is set", value="seconds", usual=(-300.0, 300.0)),
    "clock_drift": Kind("both clocks run too fast", value="ppm", usual=(-500.0, 500.0)),
    "clock_slew": Kind("the wall clock is steered", value="ppm", usual=(-500.0, 500.0)),
    "clock_strobe": Kind("the wall clock jumps to and fro", value="seconds", usual=(0.01, 200.0)),
    "clock_freeze": Kind("the wall clock stands still"),
    "leap_second": Kind("one second is told twice", lasts=False),
    # disks
    "disk_stall": Kind("no sync returns"),
    "disk_slow": Kind("syncs take longer", value="milliseconds", usual=(5.0, 500.0)),
    "disk_error": Kind("writes and syncs fail with EIO"),
    "disk_full": Kind("no byte more fits"),
    "disk_lying_sync": Kind("syncs claim success and do nothing"),
    "disk_lost_sync": Kind("syncs fail once and forget", value="how many", usual=(1.0, 3.0)),
    "disk_bit_rot": Kind("bits flip", value="how many", usual=(1.0, 8.0), lasts=False),
    "disk_misdirect": Kind("writes land elsewhere", value="how many", usual=(1.0, 3.0)),
    "disk_stale_read": Kind("reads return the past", value="how many", usual=(1.0, 3.0)),
}
"""Every kind of fault, by name."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Args:
        at_s: when it begins, virtual seconds since the world began.
        kind: one of :data:`KINDS`.
        on: names of the hosts it strikes; all hosts if empty.
        to: the hosts on the other side, for faults between hosts; all others if empty.
        for_s: how long it lasts; 0 for "until somebody heals it".
        value: how strong it is; the unit depends on the kind.

    Raises:
        InvalidInput: an unknown kind, or a field that this kind cannot use.
    """

    at_s: float
    kind: str
    on: tuple[str, ...] = ()
    to: tuple[str, ...] = ()
    for_s: float = 0.0
    value: float = 0.0

    def __post_init__(self) -> None:
        kind = KINDS.get(self.kind)
        if kind is None:
            raise InvalidInput(
                f"no fault is called {self.kind!r}",
                where="fault.kind",
                remedy=f"Choose one of {', '.join(KINDS)}.",
            )
        for name in ("at_s", "for_s"):
            if not 0 <= getattr(self, name) < 1e9:
                raise InvalidInput(
                    f"{getattr(self, name)} is not a time from now", where=f"fault.{name}"
                )
        if kind.needs_to and not (self.on and self.to):
            raise InvalidInput(f"a {self.kind} goes from `on` to `to`", where="fault.to")
        if kind.value and self.value == 0:
            raise InvalidInput(f"a {self.kind} needs {kind.value}", where="fault.value")
        if overlap := sorted(set(self.on) & set(self.to)):
            raise InvalidInput(f"{', '.join(overlap)} on both sides", where="fault.to")

    def __str__(self) -> str:
        parts = [f"{self.at_s:g} s: {self.kind}"]
        if self.on:
            parts.append(f"on {','.join(self.on)}")
        if self.to:
            parts.append(f"to {','.join(self.to)}")
        if self.value:
            parts.append(f"({self.value:g} {KINDS[self.kind].value})")
        if self.for_s:
            parts.append(f"for {self.for_s:g} s")
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Faults, in the order in which they begin."""

    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.faults, key=lambda fault: fault.at_s))
        object.__setattr__(self, "faults", ordered)

    def __str__(self) -> str:
        return "\n".join(map(str, self.faults)) or "no faults"

    def __len__(self) -> int:
        return len(self.faults)

    def check_hosts(self, names: Iterable[str]) -> None:
        """Check that every fault names existing hosts.

        Raises:
            InvalidInput: one does not.
        """
        known = list(names)
        for index, fault in enumerate(self.faults):
            for name in (*fault.on, *fault.to):
                if name not in known:
                    raise InvalidInput(
                        f"no host {name!r}",
                        where=f"fault[{index}] ({fault.kind})",
                        remedy=f"Hosts are {', '.join(known)}.",
                    )

    def to_toml(self) -> str:
        """Write as TOML, one ``[[fault]]`` table for each, defaults left out."""
        return "\n".join(map(_toml, self.faults))

    @classmethod
    def from_toml(cls, text: str, *, where: str = "schedule") -> Schedule:
        """Read what :meth:`to_toml` wrote, or a person.

        Raises:
            InvalidInput: not TOML, or not a schedule; says which fault and field.
        """
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InvalidInput(f"not TOML: {error}", where=where) from error
        if unknown := sorted(set(document) - {"fault"}):
            raise InvalidInput(
                f"unknown: {', '.join(unknown)}", where=where, remedy="Only [[fault]] tables."
            )
        tables = document.get("fault", [])
        if not isinstance(tables, list):
            raise InvalidInput(
                "fault is one table", where=where, remedy="Write [[fault]], with two brackets."
            )
        return cls.from_tables(tables, where=where)

    @classmethod
    def from_tables(cls, tables: Sequence[object], *, where: str = "schedule") -> Schedule:
        """Build from plain data: a list of mappings.

        Raises:
            InvalidInput: says which fault and field.
        """
        return cls(tuple(_fault(each, f"{where}: fault[{i}]") for i, each in enumerate(tables)))

    def to_tables(self) -> list[dict[str, object]]:
        """Return plain data, defaults left out."""
        return [_table(fault) for fault in self.faults]


def _table(fault: Fault) -> dict[str, object]:
    defaults = {each.name: each.default for each in fields(Fault)}
    table: dict[str, object] = {}
    for name, value in asdict(fault).items():
        if value != defaults[name]:
            table[name] = list(value) if isinstance(value, tuple) else value
    return table


def _toml(fault: Fault) -> str:
    lines = ["[[fault]]"]
    for name, value in _table(fault).items():
        if isinstance(value, list):
            text = "[" + ", ".join(f'"{each}"' for each in value) + "]"
        else:
            text = f'"{value}"' if isinstance(value, str) else repr(value)
        lines.append(f"{name} = {text}")
    return "\n".join(lines) + "\n"


def _fault(table: object, where: str) -> Fault:
    if not isinstance(table, Mapping):
        raise InvalidInput("not a table", where=where)
    types = {"at_s": float, "kind": str, "on": tuple, "to": tuple, "for_s": float, "value": float}
    given: dict[str, object] = {}
    for name, value in table.items():
        wanted = types.get(name)
        if wanted is None:
            raise InvalidInput(
                f"no field {name!r}", where=where, remedy=f"Fields are {', '.join(types)}."
            )
        given[name] = _converted(value, wanted, f"{where}.{name}")
    if missing := [name for name in ("at_s", "kind") if name not in given]:
        raise InvalidInput(f"{' and '.join(missing)} missing", where=where)
    try:
        return Fault(**given)  # type: ignore[arg-type]
    except InvalidInput as error:
        raise InvalidInput(
            error.what, where=f"{where}: {error.where}", remedy=error.remedy
        ) from None


def _converted(value: object, wanted: type, where: str) -> object:
    if wanted is tuple:
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            return tuple(value)
        raise InvalidInput("not a list of host names", where=where)
    if wanted is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if wanted is str and isinstance(value, str):
        return value
    raise InvalidInput(f"{value!r} is not a {wanted.__name__}", where=where)


def random_schedule(
    seed: int,
    hosts: Sequence[str],
    *,
    duration_s: float,
    count: int = 6,
    kinds: Sequence[str] = tuple(KINDS),
) -> Schedule:
    """Draw a schedule by seed, for campaigns that count seeds instead of drawing data.

    Args:
        count: how many faults at most.
        kinds: which kinds to draw from; each run uses about half of them, so that a fault which
            hides others is absent from many runs (Groce et al. 2012, "Swarm testing").
    """
    draw = stream(seed, "faults")
    swarm = [kind for kind in kinds if draw.random() < 0.5] or [draw.choice(list(kinds))]
    faults = []
    for _ in range(draw.randint(1, count)):
        name = draw.choice(swarm)
        kind = KINDS[name]
        shuffled = draw.sample(list(hosts), len(hosts))
        on = tuple(sorted(shuffled[: draw.randint(1, max(1, len(hosts) // 2))]))
        rest = [each for each in hosts if each not in on]
        faults.append(
            Fault(
                at_s=round(draw.uniform(0, duration_s), 3),
                kind=name,
                on=on,
                to=tuple(draw.sample(rest, 1)) if kind.needs_to and rest else (),
                for_s=round(draw.uniform(0.1, duration_s / 2), 3) if kind.lasts else 0.0,
                value=round(draw.uniform(*kind.usual), 3) or 1.0 if kind.value else 0.0,
            )
        )
    return Schedule(tuple(faults))
