"""Deciding: from statements to allowed or denied.

This module exists so that one page holds the whole argument for a decision: forbid beats permit
beats default deny; what cannot be told never helps the asker; a tenant speaks for its own
namespaces and for nobody else's. It must never look at how statements came here, in which order, or
from where.

On access, a request between two tenants needs both: a permit that speaks for the resource (the
grant) and a permit that speaks for the principal (the acceptance), as between two accounts of AWS.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, Protocol, TypeAlias

from mcpcore.policy.index import Compiled, Index
from mcpcore.policy.model import Decision, Effect, Reason, Request, Statement
from mcpcore.policy.network import Connection, Direction, Endpoint, NetworkRule
from mcpcore.policy.patterns import namespace_of
from mcpcore.policy.roles import Roles

Timed: TypeAlias = "Statement | tuple[Statement, int]"
"""A statement, and the ownership epoch that its author knew of (0 if left out)."""


class Owner(NamedTuple):
    """Who owns a namespace, and since which epoch."""

    tenant: str
    epoch: int


class Tenancy(Protocol):
    """Who owns what."""

    def owner(self, namespace: str) -> Owner | None:
        """The owner of a namespace; None if nobody owns it."""


_NOBODY: Final = Owner("", 1 << 62)


class Engine:
    """Statements, ready to judge requests. A changed policy is another engine.

    Args:
        statements: all that are in force, in any order.
        roles: who has which role.
        tenancy: who owns which namespace; None if tenants do not matter, as in one policy of one
            cloud, where every statement speaks for everything.
    """

    def __init__(
        self,
        statements: Iterable[Timed],
        *,
        roles: Roles | None = None,
        tenancy: Tenancy | None = None,
    ) -> None:
        self.roles = Roles() if roles is None else roles
        self.tenancy = tenancy
        newest: dict[str, tuple[Statement, int]] = {}
        for timed in statements:
            statement, epoch = timed if isinstance(timed, tuple) else (timed, 0)
            known = newest.get(statement.id)
            if known is None or known[1] < epoch:
                newest[statement.id] = statement, epoch
        self._all = {key: newest[key] for key in sorted(newest)}
        self._permits, self._forbids = Index(), Index()
        self._delegations: list[Compiled] = []
        self._network: dict[tuple[Effect, Direction], list[_About]] = {}
        for statement, epoch in self._all.values():
            self._add(statement, epoch)

    def _add(self, statement: Statement, epoch: int) -> None:
        rule = statement.rule
        if isinstance(rule, NetworkRule):
            place = self._network.setdefault((statement.effect, rule.direction), [])
            insort(place, _About(statement, rule, epoch), key=_id_of)
            return
        compiled = Compiled(statement, rule, epoch)
        self._keep(compiled)
        compiled.for_own_people = self._only_own_people(compiled)
        if statement.effect is Effect.PERMIT:
            self._permits.add(compiled)
        elif statement.effect is Effect.FORBID:
            self._forbids.add(compiled)
        else:
            insort(self._delegations, compiled, key=lambda each: each.id)

    def _keep(self, compiled: Compiled) -> None:
        """For engines that take statements out again."""

    @property
    def statements(self) -> list[Statement]:
        """All statements, by id."""
        return [statement for _, (statement, _) in sorted(self._all.items())]

    def only(self, ids: Iterable[str]) -> Engine:
        """The same world with no statements but these."""
        wanted = set(ids)
        kept = [timed for key, timed in self._all.items() if key in wanted]
        return Engine(kept, roles=self.roles, tenancy=self.tenancy)

    # --- access ---------------------------------------------------------------------------------

    def decide(self, request: Request) -> Decision:
        """Judge one request for access."""
        for compiled in self.forbids(request):
            truth = compiled.condition_truth(request)
            if truth is not False:
                reason = Reason.FORBIDDEN if truth else Reason.UNKNOWN
                return Decision(False, reason, (compiled.id,))
        return self._permitted(request)

    def forbids(self, request: Request) -> Iterator[Compiled]:
        """Forbids that match and may speak here, whatever their conditions say."""
        names, surely = self._names(request)
        resource, principal = self._owners(request)
        for compiled in self._forbids.candidates(names, request):
            if compiled.matches(names, surely, request) and (
                self.tenancy is None
                or compiled.speaks_for(resource)
                or (compiled.speaks_for(principal) and compiled.for_own_people)
            ):
                yield compiled

    def permits(self, request: Request) -> Iterator[Compiled]:
        """Permits that match, their conditions included, whoever said them."""
        perhaps, names = self._names(request)
        for compiled in self._permits.candidates(names, request):
            if (
                compiled.matches(names, perhaps, request)
                and compiled.condition_truth(request) is True
            ):
                yield compiled

    def _names(self, request: Request) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The names that the principal may have, and those that it surely has.

        A forbid is brought in by the former and kept out by the latter, a permit the other way
        round.
        """
        return (
            self.roles.for_forbids(request.principal, request.groups),
            self.roles.for_permits(request.principal, request.groups),
        )

    def _permitted(self, request: Request) -> Decision:
        if self.tenancy is None:
            for compiled in self.permits(request):
                return Decision(True, Reason.PERMITTED, (compiled.id,))
            return Decision(False, Reason.NO_PERMIT)
        resource, principal = self._owners(request)
        granted: tuple[str, ...] = ()
        accepted = resource.tenant == principal.tenant
        acceptance: tuple[str, ...] = ()
        for compiled in self.permits(request):
            if not granted:
                granted = self.grant(compiled, request, resource)
            if not accepted and compiled.speaks_for(principal) and compiled.for_own_people:
                accepted, acceptance = True, (compiled.id,)
            if granted and accepted:
                chain = tuple(dict.fromkeys((*granted, *acceptance)))
                return Decision(True, Reason.PERMITTED, chain)
        if granted:
            return Decision(False, Reason.NO_ACCEPTANCE)
        return Decision(False, Reason.NO_GRANT if accepted and acceptance else Reason.NO_PERMIT)

    def grant(self, compiled: Compiled, request: Request, owner: Owner) -> tuple[str, ...]:
        """The permit and the delegations by which it speaks for the resource; empty if none."""
        if compiled.speaks_for(owner):
            return (compiled.id,)
        chain = self._delegated(compiled.statement.author, request, owner, set())
        return (compiled.id, *chain) if chain else ()

    def _delegated(
        self, tenant: str, request: Request, owner: Owner, visited: set[str]
    ) -> tuple[str, ...]:
        """A chain of delegations from the owner to a tenant, for this very request."""
        if not self._delegations or tenant in visited:
            return ()
        visited.add(tenant)
        for each in self._delegations:
            if (
                not each.matches((tenant,), (tenant,), request)
                or each.condition_truth(request) is not True
            ):
                continue
            if each.speaks_for(owner):
                return (each.id,)
            chain = self._delegated(each.statement.author, request, owner, visited)
            if chain:
                return (each.id, *chain)
        return ()

    def _owners(self, request: Request) -> tuple[Owner, Owner]:
        if self.tenancy is None:
            return _NOBODY, _NOBODY
        owner = self.tenancy.owner
        return (
            owner(namespace_of(request.resource)) or _NOBODY,
            owner(namespace_of(request.principal)) or _NOBODY,
        )

    def _only_own_people(self, compiled: Compiled) -> bool:
        """Whether all principals of a statement live in its author's namespaces."""
        if self.tenancy is None:
            return True
        for namespace in compiled.rule.principals.namespaces():
            owner = self.tenancy.owner(namespace)
            if owner is None or not compiled.speaks_for(owner):
                return False
        return True

    # --- the network ----------------------------------------------------------------------------

    def connect(self, connection: Connection) -> Decision:
        """Judge one connection: out of its source, and into its target.

        A pod can always reach itself, as Kubernetes has it.
        """
        source, target = connection.source, connection.target
        if source.namespace and (source.namespace, source.name) == (target.namespace, target.name):
            return Decision(True, Reason.OPEN)
        determining: list[str] = []
        reason = Reason.OPEN
        for direction, endpoint in ((Direction.EGRESS, source), (Direction.INGRESS, target)):
            half = self.half(connection, direction, endpoint)
            if not half.allowed:
                return half
            determining += half.determining
            if half.reason is Reason.PERMITTED:
                reason = half.reason
        return Decision(True, reason, tuple(determining))

    def half(self, connection: Connection, direction: Direction, endpoint: Endpoint) -> Decision:
        """Judge one end of a connection."""
        for about in self._speaking(Effect.FORBID, direction, endpoint):
            if about.rule.covers(connection):
                return Decision(False, Reason.FORBIDDEN, (about.statement.id,))
        isolation = next(self._speaking(Effect.ISOLATE, direction, endpoint), None)
        if isolation is None:
            return Decision(True, Reason.OPEN)
        for about in self._speaking(Effect.PERMIT, direction, endpoint):
            if about.rule.covers(connection):
                return Decision(
                    True, Reason.PERMITTED, (isolation.statement.id, about.statement.id)
                )
        return Decision(False, Reason.ISOLATED, (isolation.statement.id,))

    def _speaking(
        self, effect: Effect, direction: Direction, endpoint: Endpoint
    ) -> Iterator[_About]:
        owner = _NOBODY
        if self.tenancy is not None and endpoint.namespace:
            owner = self.tenancy.owner(endpoint.namespace) or _NOBODY
        for about in self._network.get((effect, direction), ()):
            if about.rule.about(endpoint) and (
                self.tenancy is None
                or (about.statement.author == owner.tenant and about.epoch >= owner.epoch)
            ):
                yield about


class LiveEngine(Engine):
    """An engine that is kept up to date: it decides as one made anew of the same statements would.

    Whoever changes who owns what makes another one.
    """

    def __init__(self, tenancy: Tenancy) -> None:
        super().__init__((), tenancy=tenancy)
        self._compiled: dict[str, Compiled] = {}

    def put(self, statement: Statement, epoch: int) -> None:
        """A statement is in force, by an author who knew so much of the log."""
        known = self._all.get(statement.id)
        if known is None or known[1] != epoch:
            self.discard(statement.id)
            self._all[statement.id] = statement, epoch
            self._add(statement, epoch)

    def discard(self, key: str) -> None:
        """A statement, by its id, is not in force (any more)."""
        known = self._all.pop(key, None)
        if known is None:
            return
        statement, epoch = known
        rule = statement.rule
        if isinstance(rule, NetworkRule):
            place = self._network[statement.effect, rule.direction]
            place.remove(_About(statement, rule, epoch))
            return
        compiled = self._compiled.pop(key)
        if statement.effect is Effect.PERMIT:
            self._permits.discard(compiled)
        elif statement.effect is Effect.FORBID:
            self._forbids.discard(compiled)
        else:
            self._delegations.remove(compiled)

    def _keep(self, compiled: Compiled) -> None:
        self._compiled[compiled.id] = compiled


class _About(NamedTuple):
    """A network statement, ready."""

    statement: Statement
    rule: NetworkRule
    epoch: int


def _id_of(about: _About) -> str:
    return about.statement.id


def judge(engine: Engine, request: Request | Connection) -> Decision:
    """Judge a question of either plane."""
    return engine.decide(request) if isinstance(request, Request) else engine.connect(request)
