"""AWS IAM: documents answer as the user guide says."""

from __future__ import annotations

from typing import Any

import pytest

from mcpcore.errors import ExportRefused, InvalidInput, Unsupported
from mcpcore.policy import AnyOf, Cel, Clause, Effect, Engine, Not, Request
from mcpcore.policy.conditions import All, Missing
from mcpcore.policy.dialects.aws import evaluate, import_policy, request
from mcpcore.policy.dialects.aws_export import export_policy
from mcpcore.policy.dialects.common import Fidelity
from mcpcore.policy.model import Statement
from tests.policy.world import access

ANN = "arn:aws:iam::111122223333:user/ann"
BUCKET = "arn:aws:s3:::bucket/key"


def document(*statements: dict[str, Any], version: str = "2012-10-17") -> dict[str, Any]:
    return {"Version": version, "Statement": list(statements)}


def allow(action: Any = "s3:GetObject", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: Any = "s3:GetObject", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {**allow(action, resource, **more), "Effect": "Deny"}


def identity(*statements: dict[str, Any]) -> tuple[Statement, ...]:
    return import_policy(document(*statements), "org", principal=ANN).statements


def asks(
    *statements: dict[str, Any],
    action: str = "s3:GetObject",
    resource: str = BUCKET,
    context: dict[str, object] | None = None,
) -> bool:
    return Engine(identity(*statements)).decide(request(ANN, action, resource, context)).allowed


def test_explicit_deny_beats_allow_beats_default_deny_in_either_order():
    assert not asks()
    assert asks(allow())
    assert not asks(allow(), deny())
    assert not asks(deny(), allow())


MATCHES = [
    ("*", True), ("s3:*", True), ("s3:Get*", True), ("s3:GetObject", True), ("S3:getobject", True),
    ("s3:Get?bject", True), ("s3:GetObjectAcl", False), ("s3:Put*", False), ("ec2:*", False),
    (["ec2:*", "s3:Get*"], True),
]  # fmt: skip


@pytest.mark.parametrize(("action", "matches"), MATCHES)
def test_actions_match_with_wildcards_and_without_regard_to_case(action, matches):
    assert asks(allow(action)) is matches
    inverted = {"Effect": "Allow", "NotAction": action, "Resource": "*"}
    assert asks(inverted) is not matches


@pytest.mark.parametrize(
    ("resource", "matches"),
    [
        ("*", True), ("arn:aws:s3:::bucket/*", True), ("arn:aws:s3:::bucket/k?y", True),
        ("arn:aws:s3:::bucket", False), ("arn:aws:s3:::Bucket/*", False),
        ("arn:aws:s3:::buck*", True), ("arn:aws:s3:::*/key", True), ("arn:aws:s3:::other/*", False),
        (["arn:aws:s3:::other/*", BUCKET], True),
    ],
)  # fmt: skip
def test_resources_match_with_wildcards_and_regard_case(resource, matches):
    assert asks(allow(resource=resource)) is matches
    inverted = {"Effect": "Allow", "Action": "*", "NotResource": resource}
    assert asks(inverted) is not matches


CONDITIONS = [
    # operator, policy's values, the request's, expected
    ("StringEquals", "a", "a", True),
    ("StringEquals", ["a", "b"], "b", True),
    ("StringEquals", "a", "A", False),
    ("StringEquals", "a", None, False),
    ("StringEqualsIfExists", "a", None, True),
    ("StringEqualsIfExists", "a", "b", False),
    ("StringEqualsIgnoreCase", "a", "A", True),
    ("StringNotEquals", "a", "b", True),
    ("StringNotEquals", ["a", "b"], "b", False),
    ("StringNotEquals", "a", None, True),
    ("StringNotEqualsIgnoreCase", "a", "A", False),
    ("StringLike", "a*c?", "abbbcd", True),
    ("StringLike", "a*", "ba", False),
    ("StringNotLike", "a*", "ba", True),
    ("StringNotLike", "a*", None, True),
    ("NumericEquals", "5", "5.0", True),
    ("NumericNotEquals", "5", "6", True),
    ("NumericLessThan", "10", "9", True),
    ("NumericLessThan", "10", "10", False),
    ("NumericLessThanEquals", "10", "10", True),
    ("NumericGreaterThan", "10", "11", True),
    ("NumericGreaterThanEquals", "10", "9", False),
    ("NumericLessThan", "10", "many", False),
    ("NumericLessThan", "10", None, False),
    ("DateLessThan", "2026-01-01T00:00:00Z", "2025-12-31T23:59:59Z", True),
    ("DateGreaterThan", "2026-01-01T00:00:00Z", "2025-12-31T23:59:59Z", False),
    ("DateEquals", "2026-01-01T00:00:00Z", "1767225600", True),
    ("DateGreaterThanEquals", "2026-01-01", "2026-01-01T00:00:00Z", True),
    ("Bool", "true", "true", True),
    ("Bool", "true", True, True),
    ("Bool", "true", "false", False),
    ("Bool", "true", None, False),
    ("Bool", "false", None, False),
    ("BoolIfExists", "true", None, True),
    ("BinaryEquals", "QmluYXJ5", "QmluYXJ5", True),
    ("IpAddress", "203.0.113.0/24", "203.0.113.7", True),
    ("IpAddress", "203.0.113.0/24", "203.0.114.7", False),
    ("IpAddress", "2001:db8::/32", "2001:db8::1", True),
    ("IpAddress", "203.0.113.7", "203.0.113.7", True),
    ("NotIpAddress", "203.0.113.0/24", "203.0.114.7", True),
    ("NotIpAddress", ["203.0.113.0/24", "203.0.114.0/24"], "203.0.114.7", False),
    ("ArnLike", "arn:aws:sns:*:123:topic-*", "arn:aws:sns:eu:123:topic-a", True),
    ("ArnLike", "arn:aws:*:topic", "arn:aws:sns:eu:123:topic", False),
    ("ArnEquals", "arn:aws:sns:*:123:topic-*", "arn:aws:sns:eu:123:topic-a", True),
    ("ArnNotLike", "arn:aws:sns:*:123:*", "arn:aws:sns:eu:124:topic", True),
    ("Null", "true", None, True),
    ("Null", "true", "x", False),
    ("Null", "false", "x", True),
    ("Null", "false", None, False),
    ("ForAllValues:StringEquals", ["a", "b"], ("a", "b"), True),
    ("ForAllValues:StringEquals", ["a", "b"], ("a", "c"), False),
    ("ForAllValues:StringEquals", ["a", "b"], (), True),
    ("ForAllValues:StringEquals", ["a", "b"], None, True),
    ("ForAnyValue:StringEquals", ["a", "b"], ("c", "b"), True),
    ("ForAnyValue:StringEquals", ["a", "b"], ("c", "d"), False),
    ("ForAnyValue:StringEquals", ["a", "b"], (), False),
    ("ForAnyValue:StringEquals", ["a", "b"], None, False),
    ("ForAnyValue:StringNotEquals", ["a"], ("a", "b"), True),
    ("ForAnyValue:StringNotEquals", ["a"], ("a",), False),
    ("ForAnyValue:StringNotLike", ["a*"], None, False),
    ("ForAllValues:StringNotEquals", ["a"], ("b", "c"), True),
    ("ForAllValues:StringNotEquals", ["a"], ("a", "c"), False),
    ("ForAnyValue:StringLike", ["a*"], ("b", "ab"), True),
]


@pytest.mark.parametrize(("operator", "wanted", "has", "expected"), CONDITIONS)
def test_condition_operators_compare_as_the_user_guide_says(operator, wanted, has, expected):
    context = {} if has is None else {"AWS:Key": has}
    condition = {operator: {"aws:Key": wanted}}
    assert asks(allow(Condition=condition), context=context) is expected
    assert asks(allow(), deny(Condition=condition), context=context) is not expected


@pytest.mark.parametrize(("operator", "wanted", "has", "expected"), CONDITIONS)
def test_a_condition_written_and_read_again_is_the_same_condition(operator, wanted, has, expected):
    context = {} if has is None else {"AWS:Key": has}
    statements = identity(allow(Condition={operator: {"aws:Key": wanted}}))
    exported = export_policy(statements, principal=ANN)
    assert exported.fidelity is Fidelity.EXACT
    again = import_policy(exported.documents[0], "org", principal=ANN).statements
    asked = request(ANN, "s3:GetObject", BUCKET, context)
    assert Engine(again).decide(asked).allowed is expected


def test_keys_are_united_by_and_and_values_by_or():
    both = {"StringEquals": {"k": ["a", "b"], "l": "c"}, "Bool": {"m": "true"}}
    assert asks(allow(Condition=both), context={"k": "b", "l": "c", "m": "true"})
    assert not asks(allow(Condition=both), context={"k": "b", "l": "d", "m": "true"})
    assert not asks(allow(Condition=both), context={"k": "b", "l": "c"})


def test_policy_variables_stand_for_the_requests_values_and_never_for_wildcards():
    home = allow(resource="arn:aws:s3:::bucket/${aws:username}/*")
    where = "arn:aws:s3:::bucket/ann/x"
    assert asks(home, resource=where, context={"aws:username": "ann"})
    assert not asks(home, resource=where, context={"aws:username": "bob"})
    assert not asks(home, resource=where, context={"aws:username": "*"})
    assert not asks(home, resource=where)
    fallback = allow(resource="arn:aws:s3:::bucket/${aws:username, 'ann'}/*")
    assert asks(fallback, resource=where)
    star = allow(resource="arn:aws:s3:::bucket/${*}")
    assert asks(star, resource="arn:aws:s3:::bucket/*")
    assert not asks(star)
    tagged = allow(Condition={"StringEquals": {"s3:tag": "${aws:PrincipalTag/team}"}})
    assert asks(tagged, context={"s3:tag": "red", "aws:PrincipalTag/Team": "red"})
    assert not asks(tagged, context={"s3:tag": "red", "aws:PrincipalTag/Team": "*"})
    old = import_policy(document(home, version="2008-10-17"), "org", principal=ANN)
    asked = request(ANN, "s3:GetObject", where, {"aws:username": "ann"})
    assert not Engine(old.statements).decide(asked)


PRINCIPALS = [
    ("*", ANN, True), ({"AWS": "*"}, ANN, True), ({"AWS": ANN}, ANN, True),
    ({"AWS": "111122223333"}, ANN, True), ({"AWS": "arn:aws:iam::111122223333:root"}, ANN, True),
    ({"AWS": "444455556666"}, ANN, False), ({"Service": "ec2.amazonaws.com"}, ANN, False),
    ({"Service": "ec2.amazonaws.com"}, "service/ec2.amazonaws.com", True),
    ({"AWS": "arn:aws:iam::111122223333:role/R"},
     "arn:aws:sts::111122223333:assumed-role/R/session", True),
    ({"AWS": ["arn:aws:iam::1:user/x", ANN]}, ANN, True),
]  # fmt: skip


@pytest.mark.parametrize(("principal", "who", "matches"), PRINCIPALS)
def test_principals_match_accounts_roles_and_services(principal, who, matches):
    policy = import_policy(document(allow(Principal=principal)), "org").statements
    assert Engine(policy).decide(request(who, "s3:GetObject", BUCKET)).allowed is matches
    other = import_policy(document(allow(NotPrincipal=principal)), "org").statements
    assert Engine(other).decide(request(who, "s3:GetObject", BUCKET)).allowed is not matches
    exported = export_policy(policy)
    again = import_policy(exported.documents[0], "org").statements
    assert Engine(again).decide(request(who, "s3:GetObject", BUCKET)).allowed is matches


@pytest.mark.parametrize(
    ("policy", "error"),
    [
        ({"Version": "2020-01-01", "Statement": []}, Unsupported),
        (document({"Effect": "Maybe", "Action": "*", "Resource": "*"}), InvalidInput),
        (document({"Effect": "Allow", "Action": "*"}), InvalidInput),
        (
            document({"Effect": "Allow", "Action": "*", "NotAction": "*", "Resource": "*"}),
            InvalidInput,
        ),
        (document(allow(Principal="*")), InvalidInput),
        (document(allow(Colour="red")), Unsupported),
        (document(allow(Condition={"StringMatches": {"k": "v"}})), Unsupported),
        (document(allow(Condition={"Null": {"k": "maybe"}})), InvalidInput),
        ([], InvalidInput),
        (document(allow(action=[])), InvalidInput),
    ],
)
def test_a_document_that_aws_would_refuse_is_refused(policy, error):
    with pytest.raises(error):
        import_policy(policy, "org", principal=ANN)


# --- layers -------------------------------------------------------------------------------------

ASKED = request(ANN, "s3:GetObject", BUCKET)


def resource_policy(*statements: dict[str, Any]) -> tuple[Statement, ...]:
    return import_policy(document(*statements), "org").statements


LAYERS = [
    ("identity alone", {"identity": identity(allow())}, True, "identity"),
    ("nothing", {}, False, "identity"),
    ("resource alone, same account", {"resource": resource_policy(allow(Principal={"AWS": ANN}))},
     True, "resource"),
    ("the account alone only delegates",
     {"resource": resource_policy(allow(Principal={"AWS": "111122223333"}))}, False, "identity"),
    ("the account and the identity",
     {"resource": resource_policy(allow(Principal={"AWS": "111122223333"})),
      "identity": identity(allow())}, True, "identity"),
    ("two accounts, grant alone",
     {"resource": resource_policy(allow(Principal={"AWS": ANN})), "resource_account": "9"},
     False, "identity"),
    ("two accounts, identity alone",
     {"identity": identity(allow()), "resource_account": "9"}, False, "resource"),
    ("two accounts, both",
     {"resource": resource_policy(allow(Principal={"AWS": ANN})), "identity": identity(allow()),
      "resource_account": "9"}, True, "identity"),
    ("a boundary limits", {"identity": identity(allow()), "boundary": identity(allow("ec2:*"))},
     False, "boundary"),
    ("a boundary gives nothing", {"boundary": identity(allow())}, False, "identity"),
    ("a session limits", {"identity": identity(allow()), "session": ()}, False, "session"),
    ("every level of the organization must allow",
     {"identity": identity(allow()), "organization": [identity(allow("*")), ()]},
     False, "organization"),
    ("an organization that allows", {"identity": identity(allow()),
     "organization": [identity(allow("*"))]}, True, "identity"),
    ("a deny anywhere", {"identity": identity(allow()), "boundary": identity(allow(), deny())},
     False, "explicit deny"),
    ("a deny beats the resource's grant",
     {"resource": resource_policy(allow(Principal={"AWS": ANN})), "identity": identity(deny())},
     False, "explicit deny"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "layers", "allowed", "layer"), LAYERS, ids=[x[0] for x in LAYERS])
def test_layers_decide_together_as_the_evaluation_logic_says(name, layers, allowed, layer):
    told = evaluate(ASKED, **layers)
    assert (told.decision.allowed, told.layer) == (allowed, layer)


# --- exports of our own statements --------------------------------------------------------------


def ours(effect: Effect, condition: Any) -> Statement:
    return access(effect, "org", f"aws/{ANN}", "s3:getobject", "aws/*", condition=condition)


NATIVE = [
    Clause("equals", "k", ("a",)),
    Clause("equals", "k", ("a",), negated=True),
    Clause("is", "m", (True,)),
    Clause("present", "k", (True,)),
    Not(Clause("equals", "k", ("a",))),
    All((Clause("equals", "k", ("a",)), Clause("is", "m", (True,)))),
    AnyOf((Clause("equals", "k", ("a",)), Clause("is", "m", (True,), missing=Missing.FALSE))),
    Clause("equals", "k", ("a",), negated=True, missing=Missing.FALSE),
]


@pytest.mark.parametrize("effect", [Effect.PERMIT, Effect.FORBID])
@pytest.mark.parametrize("condition", NATIVE, ids=str)
def test_an_export_that_calls_itself_exact_is_exact_also_where_keys_are_missing(effect, condition):
    """Ours cannot tell without the key and denies; AWS must be told to do the same."""
    always = ours(Effect.PERMIT, All())
    statements = [ours(effect, condition), *([always] if effect is Effect.FORBID else [])]
    exported = export_policy(statements, principal=ANN)
    assert exported.fidelity is Fidelity.EXACT
    again = Engine(import_policy(exported.documents[0], "org", principal=ANN).statements)
    for k in ("a", "b", None):
        for m in (True, False, None):
            facts = {key: v for key, v in (("k", k), ("m", m)) if v is not None}
            asked = request(ANN, "s3:GetObject", BUCKET, facts)
            assert again.decide(asked).allowed is Engine(statements).decide(asked).allowed, facts


def test_what_iam_cannot_say_makes_an_export_narrower_and_never_wider():
    cel = Cel('resource.name.startsWith("x")')
    permit = export_policy([ours(Effect.PERMIT, cel)], principal=ANN)
    assert (permit.fidelity, permit.documents[0]["Statement"]) == (Fidelity.NARROWER, [])
    forbid = export_policy([ours(Effect.FORBID, cel)], principal=ANN)
    assert forbid.fidelity is Fidelity.NARROWER
    assert "Condition" not in forbid.documents[0]["Statement"][0]
    with pytest.raises(ExportRefused):
        export_policy([access(Effect.FORBID, "org", "aws/*", "*", "aws/*")], principal=ANN)
    with pytest.raises(ExportRefused):
        export_policy([access(Effect.FORBID, "org", "*", "*", "elsewhere/*")])


def test_a_request_between_namespaces_of_two_clouds_matches_nothing_of_aws():
    assert not Engine(identity(allow("*"))).decide(Request("gcp/user:ann", "s3:getobject", "aws/x"))
