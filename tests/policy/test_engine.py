"""Deciding: forbid beats permit beats default deny, and doubt never helps the asker."""

from __future__ import annotations

import re
from itertools import permutations, product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput
from mcpcore.policy import (
    ALWAYS,
    All,
    AnyOf,
    Clause,
    Effect,
    Engine,
    Names,
    Not,
    Owner,
    Reason,
    Request,
    Roles,
    Statement,
    explain,
    literal,
)
from mcpcore.policy.conditions import from_wire, to_wire
from mcpcore.policy.model import AccessRule
from mcpcore.policy.patterns import fill, matcher, overlap
from tests.policy.world import access

# --- patterns -----------------------------------------------------------------------------------

texts = st.text("ab/:", max_size=6)
patterns = st.text("ab/:*?", max_size=6)


def by_regex(pattern: str, text: str) -> bool:
    told = "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern)
    return re.fullmatch(told, text, re.DOTALL) is not None


@settings(deadline=None)
@given(patterns, texts)
def test_patterns_match_as_a_regular_expression_would(pattern, text):
    assert matcher(pattern)(text) is by_regex(pattern, text)


@settings(deadline=None, max_examples=300)
@given(patterns, patterns, texts)
@example("*a?", "ab*", "ab")
@example("a*b", "*", "ab")
def test_two_patterns_that_match_one_text_overlap(a, b, text):
    if by_regex(a, text) and by_regex(b, text):
        assert overlap(a, b)
        assert overlap(b, a)


@settings(deadline=None, max_examples=100)
@given(st.text("ab*?", max_size=4), st.text("ab*?", max_size=4))
def test_patterns_that_overlap_have_a_text_in_common(a, b):
    some = [""]
    for _ in range(6):
        some += [text + c for text in some[-(3**6) :] for c in "abc"][: 3**6]
    common = any(by_regex(a, text) and by_regex(b, text) for text in set(some) if len(text) <= 6)
    assert overlap(a, b) or not common
    if not overlap(a, b):
        assert not common


@given(st.text(max_size=12))
def test_a_literal_matches_itself_and_nothing_longer(text):
    assert matcher(literal(text))(text)
    assert not matcher(literal(text))(text + "x")


def test_a_value_that_is_put_into_a_pattern_is_never_a_pattern():
    assert fill("home/${user}/*", {"user": "*"}) == "home/\\*/*"
    assert fill("home/${user}", {}) is None
    assert fill("home/${user}", {"user": ("a", "b")}) is None
    assert not matcher("home/${user}")("home/${user}")


def test_a_pattern_made_to_be_slow_is_not():
    assert not matcher("*a" * 200 + "b")("a" * 2000)


# --- conditions ---------------------------------------------------------------------------------

leaf = st.sampled_from([Clause("is", key, (True,)) for key in "tfu"])
trees = st.recursive(
    leaf,
    lambda inner: (
        st.builds(lambda p: All(tuple(p)), st.lists(inner, max_size=3))
        | st.builds(lambda p: AnyOf(tuple(p)), st.lists(inner, max_size=3))
        | st.builds(Not, inner)
    ),
    max_leaves=6,
)


@settings(deadline=None)
@given(trees)
def test_a_condition_that_can_be_told_is_told_the_same_whatever_is_unknown(tree):
    """Kleene: filling in what was unknown never turns an answer round."""
    told = tree.truth({"t": True, "f": False})
    if told is not None:
        for unknown in (True, False):
            assert tree.truth({"t": True, "f": False, "u": unknown}) is told


@settings(deadline=None)
@given(trees)
def test_a_condition_survives_the_wire(tree):
    assert from_wire(to_wire(tree)) == tree


UNKNOWN = Clause("is", "mfa", (True,))


def test_a_forbid_that_cannot_be_told_denies_and_a_permit_that_cannot_be_told_gives_nothing():
    request = Request("a/ann", "read", "a/x")
    permit = access(Effect.PERMIT, "a", "*", "*", "a/*")
    for condition in (UNKNOWN, Not(UNKNOWN), Clause("less", "n", ("many",))):
        maybe = access(Effect.FORBID, "a", "*", "*", "a/*", condition=condition)
        asked = Request(request.principal, "read", "a/x", {"n": "5"})
        assert Engine([permit, maybe]).decide(asked).reason is Reason.UNKNOWN
        perhaps = access(Effect.PERMIT, "a", "*", "*", "a/*", condition=condition)
        assert not Engine([perhaps]).decide(asked)


def test_dangling_references_deny():
    """A role that nobody defines, a key that nobody gives, a namespace that nobody owns."""

    class Nobody:
        def owner(self, namespace: str) -> Owner | None:
            return None

    request = Request("a/ann", "read", "a/x")
    for who in ("a/role/ghost", "a/${gone}"):
        assert not Engine([access(Effect.PERMIT, "a", who, "*", "*")]).decide(request)
    everything = access(Effect.PERMIT, "a", "*", "*", "*")
    assert not Engine([everything], tenancy=Nobody()).decide(request)


def test_the_context_cannot_pretend_to_be_somebody_else():
    root = Clause("equals", "principal", ("a/root",))
    rule = access(Effect.PERMIT, "a", "*", "*", "*", condition=root)
    assert not Engine([rule]).decide(Request("a/eve", "read", "a/x", {"principal": "a/root"}))


# --- order and index ----------------------------------------------------------------------------

WHO, WHAT, WHERE = (
    ("a/ann", "a/*", "*", "a/ops"),
    ("read", "re*", "*"),
    ("a/x/1", "a/x/*", "a/*", "*"),
)
some_statements = st.lists(
    st.builds(
        access,
        st.sampled_from([Effect.PERMIT, Effect.FORBID]),
        st.just("a"),
        st.sampled_from(WHO),
        st.sampled_from(WHAT),
        st.sampled_from(WHERE),
    ),
    max_size=6,
)


def plainly(statements: list[Statement], request: Request, names: tuple[str, ...]) -> bool:
    """The rule in one line, without an index."""

    def match(effect: Effect) -> bool:
        return any(
            s.effect is effect
            and isinstance(s.rule, AccessRule)
            and s.rule.principals.matches_any(names)
            and s.rule.actions.matches(request.action)
            and s.rule.resources.matches(request.resource)
            for s in statements
        )

    return match(Effect.PERMIT) and not match(Effect.FORBID)


@settings(deadline=None, max_examples=150)
@given(some_statements)
def test_the_index_finds_exactly_what_matches_in_every_order(statements):
    roles = Roles([("a/ann", "a/ops")])
    for who in ("a/ann", "a/bob"):
        for what in ("read", "write"):
            for where in ("a/x/1", "a/x", "b/x/1"):
                request = Request(who, what, where)
                names = ("a/ann", "a/ops") if who == "a/ann" else (who,)
                expected = plainly(statements, request, names)
                decisions = {
                    Engine(o, roles=roles).decide(request) for o in permutations(statements[:3])
                }
                assert len(decisions) == 1
                assert Engine(statements, roles=roles).decide(request).allowed is expected


def test_a_statement_with_very_many_names_is_still_found():
    many = Names(tuple(f"a/u{i}" for i in range(40)))
    rule = AccessRule(many, Names(tuple(f"act{i}" for i in range(40))), Names.of("a/x"))
    engine = Engine([Statement(Effect.PERMIT, rule, "a")])
    assert engine.decide(Request("a/u39", "act39", "a/x"))
    assert not engine.decide(Request("a/u40", "act39", "a/x"))


# --- roles --------------------------------------------------------------------------------------


def test_an_edge_in_doubt_counts_for_forbids_and_not_for_permits():
    roles = Roles(permit=[("a/ann", "a/ops")], forbid=[("a/bob", "a/ops")])
    permit = access(Effect.PERMIT, "a", "a/ops", "*", "a/*")
    forbid = access(Effect.FORBID, "a", "a/ops", "*", "a/*")
    free = access(Effect.PERMIT, "a", "*", "*", "a/*")
    assert Engine([permit], roles=roles).decide(Request("a/ann", "read", "a/x"))
    assert not Engine([permit], roles=roles).decide(Request("a/bob", "read", "a/x"))
    assert not Engine([free, forbid], roles=roles).decide(Request("a/bob", "read", "a/x"))


def test_an_exception_reads_a_doubtful_edge_against_the_asker_too():
    """All but operators: who may be one is left out of a permit, and not spared by a forbid."""
    roles = Roles(forbid=[("a/bob", "a/ops")])
    but = AccessRule(Names(("*",), ("a/ops",)), Names.of("*"), Names.of("a/*"))
    bob = Request("a/bob", "read", "a/x")
    assert not Engine([Statement(Effect.PERMIT, but, "a")], roles=roles).decide(bob)
    free = access(Effect.PERMIT, "a", "*", "*", "a/*")
    assert not Engine([free, Statement(Effect.FORBID, but, "a")], roles=roles).decide(bob)


def test_a_role_cycle_ends():
    roles = Roles([("a/x", "a/y"), ("a/y", "a/x")])
    assert set(roles.for_permits("a/x")) == {"a/x", "a/y"}


# --- tenants ------------------------------------------------------------------------------------


class Two:
    def owner(self, namespace: str) -> Owner | None:
        return Owner(namespace, 5) if namespace in ("a", "b", "c") else None


def decide(*timed: tuple[Statement, int], who: str = "b/bob", where: str = "a/x") -> Reason:
    return Engine(timed, tenancy=Two()).decide(Request(who, "read", where)).reason


GRANT = access(Effect.PERMIT, "a", "b/bob", "read", "a/x")
ACCEPT = access(Effect.PERMIT, "b", "b/bob", "read", "a/x")


def test_access_between_tenants_needs_the_grant_and_the_acceptance():
    assert decide((GRANT, 5), (ACCEPT, 5)) is Reason.PERMITTED
    assert decide((GRANT, 5)) is Reason.NO_ACCEPTANCE
    assert decide((ACCEPT, 5)) is Reason.NO_GRANT
    assert (
        decide((access(Effect.PERMIT, "b", "*", "*", "*"), 5), (GRANT, 5)) is Reason.NO_ACCEPTANCE
    )


def test_a_statement_older_than_the_ownership_counts_for_nothing():
    assert decide((GRANT, 4), (ACCEPT, 5)) is Reason.NO_GRANT
    assert decide((GRANT, 5), (ACCEPT, 4)) is Reason.NO_ACCEPTANCE
    old = access(Effect.FORBID, "a", "*", "*", "*")
    assert decide((GRANT, 5), (ACCEPT, 5), (old, 4)) is Reason.PERMITTED
    assert decide((GRANT, 5), (ACCEPT, 5), (old, 5)) is Reason.FORBIDDEN


def test_a_tenant_may_forbid_its_own_people_anything_anywhere_and_nobody_elses():
    own = access(Effect.FORBID, "b", "b/*", "*", "*")
    assert decide((GRANT, 5), (ACCEPT, 5), (own, 5)) is Reason.FORBIDDEN
    meddling = access(Effect.FORBID, "c", "b/*", "*", "a/*")
    assert decide((GRANT, 5), (ACCEPT, 5), (meddling, 5)) is Reason.PERMITTED


def test_a_delegation_lets_another_tenant_grant_within_it_and_no_further():
    by_c = access(Effect.PERMIT, "c", "b/bob", "*", "a/*")
    delegation = access(Effect.DELEGATE, "a", "c", "read", "a/x")
    accept = access(Effect.PERMIT, "b", "b/*", "*", "a/*")
    assert decide((by_c, 5), (accept, 5)) is Reason.NO_GRANT
    assert decide((by_c, 5), (accept, 5), (delegation, 5)) is Reason.PERMITTED
    assert decide((by_c, 5), (accept, 5), (delegation, 5), where="a/y") is Reason.NO_GRANT
    stolen = access(Effect.DELEGATE, "b", "c", "read", "a/x")
    assert decide((by_c, 5), (accept, 5), (stolen, 5)) is Reason.NO_GRANT


def test_delegations_in_a_circle_give_nothing():
    circle = [(access(Effect.DELEGATE, x, y, "*", "a/*"), 5) for x, y in ("bc", "cb")]
    by_c = access(Effect.PERMIT, "c", "b/bob", "*", "a/*")
    assert decide((by_c, 5), (ACCEPT, 5), *circle) is Reason.NO_GRANT


# --- explanations -------------------------------------------------------------------------------

some_requests = [
    Request(*words) for words in product(("a/ann", "b/bob"), ("read", "write"), ("a/x/1", "a/y"))
]


@settings(deadline=None, max_examples=100)
@given(some_statements)
def test_the_determining_statements_alone_decide_the_same(statements):
    for tenancy in (None, Two()):
        engine = Engine(
            [(s, 9) for s in statements], roles=Roles([("a/ann", "a/ops")]), tenancy=tenancy
        )
        for request in some_requests:
            told = explain(engine, request)
            assert told.decision.allowed is engine.decide(request).allowed
            alone = engine.only(s.id for s in told.determining)
            assert alone.decide(request).allowed is told.decision.allowed
            if not told.decision.allowed and not told.determining:
                assert told.decision.reason not in (Reason.FORBIDDEN, Reason.UNKNOWN)


@pytest.mark.parametrize(
    ("statement", "clause"),
    [
        (access(Effect.PERMIT, "a", "a/ann", "write", "a/x"), "action"),
        (access(Effect.PERMIT, "a", "a/ann", "read", "a/y"), "resource"),
        (access(Effect.PERMIT, "a", "a/bob", "read", "a/x"), "principal"),
        (access(Effect.PERMIT, "a", "a/ann", "read", "a/x", condition=UNKNOWN), "condition"),
    ],
)
def test_an_implicit_denial_names_the_first_clause_that_failed(statement, clause):
    told = explain(Engine([statement]), Request("a/ann", "read", "a/x"))
    assert [miss.clause for miss in told.nearest] == [clause]
    assert f"fails at {clause}" in str(told)


def test_the_nearest_permits_come_first_and_a_denial_by_forbid_shows_what_it_shadows():
    far = access(Effect.PERMIT, "a", "a/bob", "write", "a/y")
    near = access(Effect.PERMIT, "a", "a/ann", "read", "a/x", condition=UNKNOWN)
    request = Request("a/ann", "read", "a/x", {})
    assert explain(Engine([far, near]), request).nearest[0].statement == near
    permit = access(Effect.PERMIT, "a", "a/ann", "read", "a/x")
    forbid = access(Effect.FORBID, "a", "*", "*", "a/*")
    told = explain(Engine([permit, forbid]), request)
    assert (told.determining, told.shadowed) == ((forbid,), (permit,))


def test_equal_statements_have_one_id_and_others_have_others():
    one = access(Effect.PERMIT, "a", "a/ann", "read", "a/x")
    assert (
        one.id
        == access(Effect.PERMIT, "a", "a/ann", "read", "a/x").id
        == Statement.from_wire(one.to_wire()).id
    )
    assert one.id != access(Effect.PERMIT, "b", "a/ann", "read", "a/x").id
    assert one.id != access(Effect.FORBID, "a", "a/ann", "read", "a/x").id
    assert one.rule.condition == ALWAYS  # type: ignore[union-attr]


ANY = [["*"], []]
NO_STATEMENTS = [
    None,
    [],
    ["rbac"],
    ["rbac", "permit", "", []],
    ["x", "permit", "a", []],
    ["rbac", "isolate", "a", [ANY, ANY, ANY, ["&"]]],
    ["network", "delegate", "a", []],
    ["rbac", "permit", "a/b", [ANY, ANY, ANY, ["&"]]],
    ["rbac", "permit", "a", [ANY, ANY, [[""], []], ["&"]]],
    ["rbac", "permit", "a", [ANY, ANY, ANY, ["?", "x", "k", ["v"], False, "one", "unknown"]]],
    ["rbac", "permit", "a", [ANY, ANY, ANY, ["?", "is", "k", [], False, "one", "unknown"]]],
    ["rbac", "permit", "a", [ANY, ANY, ANY, ["?", "is", "k", ["v"], False, "few", "unknown"]]],
    ["rbac", "permit", "a", [ANY, ANY, ANY, ["cel", "a ="]]],
]


@pytest.mark.parametrize("wire", NO_STATEMENTS)
def test_bytes_that_are_no_statement_are_refused(wire):
    with pytest.raises(InvalidInput):
        Statement.from_wire(wire)
