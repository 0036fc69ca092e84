"""Why: the statements that make a decision, and for a denial what was nearest.

This module exists so that "denied" is never the end of a conversation. It looks at every statement,
so it costs what the policy holds; deciding does not. It must never decide otherwise than the
engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mcpcore.policy.conditions import first_not_true
from mcpcore.policy.edits import Add, Edit
from mcpcore.policy.engine import Engine, judge
from mcpcore.policy.model import AccessRule, Decision, Effect, Reason, Request, Statement
from mcpcore.policy.network import Connection, Direction, NetworkRule
from mcpcore.policy.patterns import Names, namespace_of
from mcpcore.policy.view import Standing, View

NEAREST_MAX = 3
_CLAUSES = ("author", "action", "resource", "principal", "condition", "consent")


@dataclass(frozen=True, slots=True)
class Miss:
    """A permit that did not match, and the first clause that kept it from matching.

    Args:
        clause: ``author`` (it may not speak there), ``action``, ``resource``, ``principal``,
            ``condition`` or ``consent`` (the other tenant's word is missing).
    """

    statement: Statement
    clause: str
    text: str

    @property
    def met(self) -> int:
        """How many clauses it met."""
        return _CLAUSES.index(self.clause)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a determining statement comes from.

    Args:
        order: for each earlier edit of the list ``before``, ``after`` or ``concurrent``: how that
            one lies to this one, by what their authors had seen and not by clocks.
    """

    statement: Statement
    cloud: str
    replica: str
    tenant: str
    document: str
    earliest_ns: int
    latest_ns: int
    order: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        told = "".join(f", {word} {cloud}'s" for cloud, word in self.order)
        return f"{self.tenant}/{self.document}, made in {self.cloud}{told}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision and its reasons.

    Args:
        determining: a policy of these statements alone decides the same.
        nearest: for an implicit denial, the permits that came closest.
        shadowed: permits that match and are overruled by a forbid.
        inert: statements that would match, and are not in force, with why.
        origins: where the determining statements come from.
    """

    question: Request | Connection
    decision: Decision
    determining: tuple[Statement, ...]
    nearest: tuple[Miss, ...] = ()
    shadowed: tuple[Statement, ...] = ()
    inert: tuple[tuple[Statement, str], ...] = ()
    origins: tuple[Origin, ...] = field(default=())

    def lines(self) -> list[str]:
        """As text, a line each."""
        verdict = "ALLOWED" if self.decision.allowed else "DENIED"
        lines = [f"{verdict}  {self.question}", f"because {self.decision.reason}"]
        origins = {origin.statement.id: origin for origin in self.origins}
        for statement in self.determining:
            origin = origins.get(statement.id)
            lines.append(f"  {statement.id[:8]} {statement}" + (f"  [{origin}]" if origin else ""))
        for miss in self.nearest:
            lines.append(f"nearest: {miss.statement.id[:8]} {miss.statement}")
            lines.append(f"  fails at {miss.clause}: {miss.text}")
        lines += [f"shadowed: {each.id[:8]} {each}" for each in self.shadowed]
        lines += [f"not in force: {each.id[:8]} {each}: {why}" for each, why in self.inert]
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines())


def explain(source: Engine | View, question: Request | Connection) -> Explanation:
    """Decide, and say why.

    Args:
        source: a view of a replica, which knows where statements come from, or a bare engine.
    """
    view = source if isinstance(source, View) else None
    engine = source.engine if isinstance(source, View) else source
    decision = judge(engine, question)
    determining = _determining(engine, question, decision)
    by_id = {statement.id: statement for statement in engine.statements}
    nearest: list[Miss] = []
    shadowed: list[Statement] = []
    if not decision.allowed:
        if isinstance(question, Request):
            matching = {each.id for each in engine.permits(question)}
            if decision.reason in (Reason.FORBIDDEN, Reason.UNKNOWN):
                shadowed = [by_id[each] for each in sorted(matching)]
            else:
                nearest = _nearest(_misses(engine, question))
        elif decision.reason is Reason.ISOLATED:
            nearest = _nearest(_network_misses(engine, question))
        else:
            shadowed = [
                s for s in by_id.values() if s.effect is Effect.PERMIT and _about(s, question)
            ]
    return Explanation(
        question,
        decision,
        tuple(by_id[each] for each in determining),
        tuple(nearest),
        tuple(shadowed),
        tuple(_inert(view, question)) if view else (),
        tuple(_origins(view, determining)) if view else (),
    )


def _determining(
    engine: Engine, question: Request | Connection, decision: Decision
) -> tuple[str, ...]:
    """All forbids that match, for a denial by forbid; else what the engine went by."""
    if isinstance(question, Request) and decision.reason in (Reason.FORBIDDEN, Reason.UNKNOWN):
        found = [
            each.id
            for each in engine.forbids(question)
            if each.condition_truth(question) is not False
        ]
        return tuple(dict.fromkeys(found))
    return decision.determining


# --- what was nearest ---------------------------------------------------------------------------


def _nearest(misses: Iterable[Miss]) -> list[Miss]:
    ranked = sorted(misses, key=lambda miss: (-miss.met, miss.statement.id))
    return ranked[:NEAREST_MAX]


def _misses(engine: Engine, request: Request) -> Iterator[Miss]:
    names = engine.roles.for_permits(request.principal, request.groups)
    barred = engine.roles.for_forbids(request.principal, request.groups)
    matching = {each.id for each in engine.permits(request)}
    for statement in engine.statements:
        rule = statement.rule
        if statement.effect is not Effect.PERMIT or not isinstance(rule, AccessRule):
            continue
        if statement.id in matching:
            yield _no_consent(engine, statement, request)
            continue
        clause, text = _first_failing(rule, request, names, barred)
        yield Miss(statement, clause, text)


def _first_failing(
    rule: AccessRule, request: Request, names: tuple[str, ...], barred: tuple[str, ...]
) -> tuple[str, str]:
    facts = request.facts
    if not rule.actions.filled(facts).matches(request.action):
        return "action", f"{request.action} is not {rule.actions}"
    if not rule.resources.filled(facts).matches(request.resource):
        return "resource", f"{request.resource} is not {rule.resources}"
    if not rule.principals.filled(facts).matches_any(names, barred):
        return "principal", f"{request.principal} is not {rule.principals}"
    return "condition", first_not_true(rule.condition, facts)


def _no_consent(engine: Engine, statement: Statement, request: Request) -> Miss:
    assert engine.tenancy is not None
    theirs = engine.tenancy.owner(namespace_of(request.resource))
    owner = theirs.tenant if theirs else "nobody"
    if statement.author == owner:
        people = engine.tenancy.owner(namespace_of(request.principal))
        who = people.tenant if people else f"the owner of {namespace_of(request.principal)}"
        if people and people.tenant == owner:
            return Miss(statement, "author", "it is older than the ownership of its namespace")
        return Miss(statement, "consent", f"{who} does not accept it")
    return Miss(statement, "consent", f"{owner}, who owns {request.resource}, does not grant it")


def _network_misses(engine: Engine, connection: Connection) -> Iterator[Miss]:
    for statement in engine.statements:
        rule = statement.rule
        if statement.effect is not Effect.PERMIT or not isinstance(rule, NetworkRule):
            continue
        inward = rule.direction is Direction.INGRESS
        endpoint = connection.target if inward else connection.source
        if engine.half(connection, rule.direction, endpoint).allowed:
            continue
        if not rule.about(endpoint):
            yield Miss(statement, "resource", f"{endpoint} is not among {rule.namespace}")
        elif rule.ports and not any(ports.matches(connection) for ports in rule.ports):
            ports = ", ".join(map(str, rule.ports))
            yield Miss(
                statement, "condition", f"{connection.port}/{connection.protocol} is not {ports}"
            )
        else:
            other = connection.source if inward else connection.target
            yield Miss(statement, "principal", f"{other} is not among its peers")


# --- what is not in force, and whence -----------------------------------------------------------


def _inert(view: View, question: Request | Connection) -> Iterator[tuple[Statement, str]]:
    told: set[str] = set()
    dead = (Standing.INERT, Standing.STALE, Standing.LOST, Standing.UNPROVED, Standing.PENDING)
    for placed in view.placed:
        statement = placed.statement
        if statement is None or placed.standing not in dead or statement.id in told:
            continue
        best = view.standing(statement.id)
        if best is not None and best.standing is placed.standing and _about(statement, question):
            told.add(statement.id)
            yield statement, f"{placed.standing}, {placed.why}"


def _about(statement: Statement, question: Request | Connection) -> bool:
    """Whether a statement would match, leaving principals' roles and conditions aside."""
    rule = statement.rule
    if isinstance(rule, AccessRule) and isinstance(question, Request):
        facts = question.facts
        actions: Names = rule.actions.filled(facts)
        return actions.matches(question.action) and rule.resources.filled(facts).matches(
            question.resource
        )
    if isinstance(rule, NetworkRule) and isinstance(question, Connection):
        inward = rule.direction is Direction.INGRESS
        endpoint = question.target if inward else question.source
        covers = statement.effect is Effect.ISOLATE or rule.covers(question)
        return rule.about(endpoint) and covers
    return False


def _origins(view: View, determining: tuple[str, ...]) -> Iterator[Origin]:
    wanted = set(determining)
    edits: list[Edit] = []
    for edit in view.sound:
        body = edit.body
        if not isinstance(body, Add) or body.statement.id not in wanted or view.is_gone(edit):
            continue
        order = tuple((earlier.cloud, _order(earlier, edit)) for earlier in edits)
        edits.append(edit)
        middle_ns, radius_ns = edit.at.timestamp.physical_ns, edit.at.uncertainty_ns
        yield Origin(
            body.statement, edit.cloud, edit.dot[0], edit.tenant, edit.document,
            middle_ns - radius_ns, middle_ns + radius_ns, order,
        )  # fmt: skip


def _order(earlier: Edit, edit: Edit) -> str:
    if edit.saw(earlier):
        return "after"
    return "before" if earlier.saw(edit) else "concurrent with"
