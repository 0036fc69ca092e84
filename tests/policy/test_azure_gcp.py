"""Azure and Google Cloud: roles and bindings answer as their documentation says."""

from __future__ import annotations

from typing import Any

import pytest

from mcpcore.errors import ExportRefused, InvalidInput, Unsupported
from mcpcore.policy import Effect, Engine
from mcpcore.policy.dialects import azure, gcp
from mcpcore.policy.dialects.common import Fidelity
from tests.policy.world import access

SUB = "/subscriptions/1111"
GROUP = f"{SUB}/resourceGroups/web"
VM = f"{GROUP}/providers/Microsoft.Compute/virtualMachines/vm1"
BLOB = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/s/blobServices/default/containers/c"
MANAGEMENT = "/providers/Microsoft.Management/managementGroups/root"
READ_BLOB = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read"


def role(name: str, **permission: Any) -> dict[str, Any]:
    return {"name": name, "properties": {"permissions": [permission]}}


ROLES = [
    role("contributor", actions=["*"], notActions=["Microsoft.Authorization/*/Write"]),
    role("reader", actions=["*/read"]),
    role("access", actions=["Microsoft.Authorization/*"]),
    role("blobs", dataActions=[READ_BLOB.replace("read", "*")], notDataActions=[READ_BLOB]),
]


def assigned(role: str, scope: str, who: str = "Ann") -> dict[str, Any]:
    return {"properties": {"roleDefinitionId": role, "principalId": who, "scope": scope}}


def denied(scope: str, **more: Any) -> dict[str, Any]:
    permission = {"actions": ["*/delete"], "notActions": ["Microsoft.Compute/disks/delete"]}
    return {"properties": {"permissions": [permission], "principals": [{"id": "ann"}],
                           "scope": scope, **more}}  # fmt: skip


def azure_allows(
    assignments: list[Any], action: str, scope: str = VM, denials: tuple[Any, ...] = (), **more: Any
) -> bool:
    found = azure.import_roles(ROLES, assignments, "org", deny_assignments=denials)
    return Engine(found.statements).decide(azure.request("ann", action, scope, **more)).allowed


START = "Microsoft.Compute/virtualMachines/start/action"
GRANT = "Microsoft.Authorization/roleAssignments/write"
DELETE = "Microsoft.Compute/virtualMachines/delete"


@pytest.mark.parametrize(
    ("roles", "action", "scope", "allowed"),
    [
        ([("contributor", SUB)], START, VM, True),
        ([("contributor", SUB)], START.upper(), VM.upper(), True),
        ([("contributor", GROUP)], START, VM, True),
        ([("contributor", f"{SUB}/resourceGroups/we")], START, VM, False),
        ([("contributor", f"{SUB}/resourceGroups/other")], START, VM, False),
        ([("contributor", VM)], START, GROUP, False),
        ([("contributor", "/")], START, VM, True),
        ([("contributor", SUB)], GRANT, VM, False),
        ([("contributor", SUB), ("access", SUB)], GRANT, VM, True),
        ([("reader", SUB)], "Microsoft.Compute/virtualMachines/read", VM, True),
        ([("reader", SUB)], START, VM, False),
        ([("ghost", SUB)], START, VM, False),
    ],
)
def test_azure_roles_reach_down_and_not_actions_is_no_deny(roles, action, scope, allowed):
    assert azure_allows([assigned(*each) for each in roles], action, scope) is allowed


def test_azure_operations_on_data_are_another_world():
    assert not azure_allows([assigned("contributor", SUB)], READ_BLOB, BLOB, data=True)
    assert azure_allows([assigned("contributor", SUB)], READ_BLOB, BLOB)
    write = READ_BLOB.replace("read", "write")
    assert azure_allows([assigned("blobs", SUB)], write, BLOB, data=True)
    assert not azure_allows([assigned("blobs", SUB)], READ_BLOB, BLOB, data=True)
    assert not azure_allows([assigned("blobs", SUB)], write, BLOB)


def test_azure_deny_assignments_beat_every_role_but_spare_whom_they_except():
    owner = [assigned("contributor", "/")]
    assert azure_allows(owner, DELETE)
    assert not azure_allows(owner, DELETE, denials=(denied(SUB),))
    assert azure_allows(owner, "Microsoft.Compute/disks/delete", denials=(denied(SUB),))
    assert azure_allows(owner, DELETE, denials=(denied(SUB, doNotApplyToChildScopes=True),))
    assert not azure_allows(owner, DELETE, VM, denials=(denied(VM, doNotApplyToChildScopes=True),))
    everybody = denied(SUB, principals=[{"id": azure.ALL_PRINCIPALS}])
    assert not azure_allows(owner, DELETE, denials=(everybody,))
    spared = denied(
        SUB, principals=[{"id": azure.ALL_PRINCIPALS}], excludePrincipals=[{"id": "ann"}]
    )
    assert azure_allows(owner, DELETE, denials=(spared,))


def test_azure_groups_and_management_groups_come_with_the_request():
    by_group = [assigned("contributor", SUB, "team")]
    assert azure_allows(by_group, START, groups=["TEAM"])
    assert not azure_allows(by_group, START)
    above = [assigned("contributor", MANAGEMENT)]
    assert azure_allows(above, START, above=["root"])
    assert azure_allows(above, START, above=[MANAGEMENT])
    assert not azure_allows(above, START)
    assert azure_allows(above, START, MANAGEMENT)


def test_azure_conditions_are_refused_and_not_dropped():
    conditional = assigned("reader", SUB)
    conditional["properties"]["condition"] = "@Resource[...] StringEquals 'x'"
    with pytest.raises(Unsupported):
        azure.import_roles(ROLES, [conditional], "org")
    with pytest.raises(InvalidInput):
        azure.import_roles(ROLES, [{"properties": {"scope": "/"}}], "org")


def test_azure_exports_are_read_back_and_forbids_are_refused():
    first = azure.import_roles(
        ROLES, [assigned("contributor", GROUP), assigned("blobs", "/")], "org"
    ).statements
    exported = azure.export_roles(first)
    assert exported.fidelity is Fidelity.EXACT
    definitions = [d["roleDefinition"] for d in exported.documents if "roleDefinition" in d]
    assignments = [d["roleAssignment"] for d in exported.documents if "roleAssignment" in d]
    again = azure.import_roles(definitions, assignments, "org").statements
    for action, data in ((START, False), (GRANT, False), (READ_BLOB, True), ("x/write", True)):
        for scope in (VM, GROUP, SUB, "/"):
            asked = azure.request("ann", action, scope, data=data)
            assert Engine(again).decide(asked).allowed is Engine(first).decide(asked).allowed
    forbid = azure.import_roles([], [], "org", deny_assignments=[denied(SUB)]).statements
    with pytest.raises(ExportRefused):
        azure.export_roles([*first, *forbid])


# --- Google Cloud -------------------------------------------------------------------------------

ORG, PROJECT = "organizations/1", "organizations/1/folders/2/projects/p"
BUCKET = f"{PROJECT}/buckets/b"
GCP_ROLES = {
    "roles/storage.admin": ["storage.buckets.get", "storage.buckets.delete"],
    "roles/storage.viewer": ["storage.buckets.get"],
}
ANN = "user:ann@example.com"
ROBOT = "serviceAccount:s@p.iam.gserviceaccount.com"
NAMED = 'resource.name.startsWith("projects/_/buckets/b")'
BEFORE = 'request.time < timestamp("2026-01-01T00:00:00Z")'


def bindings(*rows: tuple[Any, ...], at: str = PROJECT) -> list[Any]:
    policy = {
        "version": 3,
        "bindings": [
            {"role": f"roles/storage.{role}", "members": members,
             **({"condition": {"title": "t", "expression": rest[0]}} if rest else {})}
            for role, members, *rest in rows
        ],
    }  # fmt: skip
    return list(gcp.import_allow(policy, at, GCP_ROLES, "org").statements)


def deny(at: str = PROJECT, condition: str = "", **more: Any) -> list[Any]:
    rule: dict[str, Any] = {
        "deniedPrincipals": ["principalSet://goog/public:all"],
        "deniedPermissions": ["storage.googleapis.com/buckets.delete"],
        **more,
    }
    if condition:
        rule["denialCondition"] = {"expression": condition}
    return list(gcp.import_deny({"rules": [{"denyRule": rule}]}, at, "org").statements)


def gcp_allows(statements: list[Any], permission: str = "storage.buckets.delete",
               where: str = BUCKET, who: str = ANN, **more: Any) -> bool:  # fmt: skip
    return Engine(statements).decide(gcp.request(who, permission, where, **more)).allowed


@pytest.mark.parametrize(
    ("members", "who", "groups", "allowed"),
    [
        ([ANN], ANN, [], True),
        ([ANN], "user:bob@example.com", [], False),
        (["domain:example.com"], ANN, [], True),
        (["domain:ample.com"], ANN, [], False),
        (["group:team@example.com"], ANN, ["group:team@example.com"], True),
        (["group:team@example.com"], ANN, [], False),
        (["allUsers"], "", [], True),
        (["allAuthenticatedUsers"], "", [], False),
        (["allAuthenticatedUsers"], ANN, [], True),
        (["deleted:user:ann@example.com?uid=1"], ANN, [], False),
        ([ROBOT], ROBOT, [], True),
    ],
)  # fmt: skip
def test_gcp_members_match_as_the_documentation_says(members, who, groups, allowed):
    assert gcp_allows(bindings(("admin", members)), who=who, groups=groups) is allowed


def test_gcp_bindings_are_inherited_from_above_and_only_add():
    assert gcp_allows(bindings(("admin", [ANN]), at=ORG))
    assert not gcp_allows(bindings(("admin", [ANN])), where=f"{ORG}/folders/2")
    assert not gcp_allows(bindings(("admin", [ANN])), where=f"{PROJECT}2/buckets/b")
    assert gcp_allows([*bindings(("viewer", [ANN])), *bindings(("admin", [ANN]), at=ORG)])


def test_gcp_deny_rules_come_first_at_every_level_and_have_exceptions():
    allowed = bindings(("admin", [ANN]))
    assert not gcp_allows([*allowed, *deny()])
    assert not gcp_allows([*allowed, *deny(ORG)])
    assert gcp_allows([*allowed, *deny()], "storage.buckets.get")
    spared = deny(exceptionPrincipals=["principal://goog/subject/ann@example.com"])
    assert gcp_allows([*allowed, *spared])
    free = deny(deniedPermissions=["storage.googleapis.com/buckets.*"],
                exceptionPermissions=["storage.googleapis.com/buckets.get"])  # fmt: skip
    assert gcp_allows([*allowed, *free], "storage.buckets.get")
    assert not gcp_allows([*allowed, *free])
    by_group = deny(deniedPrincipals=["principalSet://goog/group/team@example.com"])
    assert gcp_allows([*allowed, *by_group])
    assert not gcp_allows([*allowed, *by_group], groups=["group:team@example.com"])


CEL = [
    (NAMED, {"resource.name": "projects/_/buckets/b"}, True),
    (NAMED, {"resource.name": "projects/_/x"}, False),
    ('resource.name.startsWith("x")', {}, None),
    (BEFORE, {"request.time": "2025-06-01T00:00:00Z"}, True),
    (BEFORE, {"request.time": "2027-06-01T00:00:00Z"}, False),
    ('request.time.getHours("Europe/Berlin") >= 9', {"request.time": "2026-01-05T08:30:00Z"}, True),
    ("request.time.getDayOfWeek() in [1, 2, 3]", {"request.time": "2026-01-05T08:30:00Z"}, True),
    ('request.time < timestamp("2026-01-01T00:00:00Z") + duration("24h")',
     {"request.time": "2026-01-01T12:00:00Z"}, True),
    ('resource.type == "a" || resource.type == "b"', {"resource.type": "b"}, True),
    ('resource.type != "a" && !(resource.service == "s")',
     {"resource.type": "b", "resource.service": "t"}, True),
    ('true || resource.gone == "x"', {}, True),
    ('resource.gone == "x" || true', {}, True),
    ('resource.gone == "x" && false', {}, False),
    ('resource.gone == "x" || false', {}, None),
    ('resource.name.extract("/buckets/{name}/") == "b"', {"resource.name": "p/buckets/b/o"}, True),
    ('"a" in request.tags', {"request": {"tags": ["a"]}}, True),
    ('request.tags["k"] == "v"', {"request": {"tags": {"k": "v"}}}, True),
    ("size(resource.name) > 3 && resource.name.size() < 6", {"resource.name": "abcd"}, True),
    ("1 < 2 && 2 >= 2.0 && -1 < 0", {}, True),
    ('"a" < 1', {}, None),
    ("1", {}, None),
    ("'it\\'s' == \"it's\"", {}, True),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "facts", "expected"), CEL)
def test_cel_conditions_are_true_false_or_not_to_be_told(expression, facts, expected):
    """What cannot be told gives nothing in a binding, and denies in a deny rule."""
    allowed = bindings(("admin", [ANN], expression))
    assert gcp_allows(allowed, context=facts) is (expected is True)
    denied = [*bindings(("admin", [ANN])), *deny(condition=expression)]
    assert gcp_allows(denied, context=facts) is (expected is False)


@pytest.mark.parametrize(
    "expression",
    ["resource.name.matches('a+')", "a b", "a ==", "has(a)", "resource.hasTagKey('x')", "a ? b : c",
     '"open', "(" * 200 + "a" + ")" * 200, "x" * 5000, "a.all(x, x)", "[1, 2", ""],
)  # fmt: skip
def test_what_is_not_read_of_cel_is_refused_when_it_is_read(expression):
    with pytest.raises(Unsupported):
        bindings(("admin", [ANN], expression))


def test_gcp_exports_are_read_back_and_forbids_are_refused():
    first = bindings(("admin", [ANN], 'resource.type == "a"'), ("viewer", ["allUsers"]))
    exported = gcp.export_allow(first, PROJECT)
    assert exported.fidelity is Fidelity.EXACT
    *roles, policy = exported.documents
    permissions = {role["name"]: role["includedPermissions"] for role in roles}
    again = list(gcp.import_allow(policy, PROJECT, permissions, "org").statements)
    assert [s.id for s in again] == [s.id for s in first]
    with pytest.raises(ExportRefused):
        gcp.export_allow([*first, *deny()], PROJECT)
    narrowed = gcp.export_allow([*first, *deny()], PROJECT, narrow=True)
    assert narrowed.fidelity is Fidelity.NARROWER
    wild = access(Effect.PERMIT, "org", "gcp/allUsers", "storage.*", "gcp/organizations/1*")
    assert gcp.export_allow([wild], ORG).fidelity is Fidelity.NARROWER


def test_gcp_refuses_what_is_no_policy():
    for policy in ([], {"bindings": [{"role": "r", "members": ["robot:x"]}]}, {"bindings": "x"},
                   {"bindings": [{"members": [ANN]}]}):  # fmt: skip
        with pytest.raises(InvalidInput):
            gcp.import_allow(policy, PROJECT, GCP_ROLES, "org")
    with pytest.raises(InvalidInput):
        deny(deniedPermissions=["storage.buckets.delete"])
