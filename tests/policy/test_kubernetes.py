"""Kubernetes: RBAC and NetworkPolicy answer as the documentation says."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from mcpcore.errors import ExportRefused, InvalidInput, Unsupported
from mcpcore.policy import Connection, Effect, Endpoint, Engine, Statement
from mcpcore.policy.dialects.common import Fidelity
from mcpcore.policy.dialects.kubernetes_network import export_network, import_network
from mcpcore.policy.dialects.kubernetes_rbac import export_rbac, import_rbac, request
from tests.policy.world import access

RBAC = """
kind: ClusterRole
apiVersion: rbac.authorization.k8s.io/v1
metadata: {name: admin}
rules: [{apiGroups: ["*"], resources: ["*"], verbs: ["*"]}]
---
kind: ClusterRole
apiVersion: rbac.authorization.k8s.io/v1
metadata: {name: health}
rules: [{nonResourceURLs: ["/healthz", "/metrics/*"], verbs: [get]}]
---
kind: Role
apiVersion: rbac.authorization.k8s.io/v1
metadata: {namespace: dev, name: pods}
rules:
- {apiGroups: [""], resources: [pods, pods/log], verbs: [get, list]}
- apiGroups: [""]
  resources: [configmaps]
  resourceNames: [my-config]
  verbs: [get, update, create]
- {apiGroups: [apps], resources: ["*/scale"], verbs: [patch]}
---
kind: ClusterRoleBinding
apiVersion: rbac.authorization.k8s.io/v1
metadata: {name: admins}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: admin}
subjects: [{kind: Group, name: admins, apiGroup: rbac.authorization.k8s.io}]
---
kind: ClusterRoleBinding
apiVersion: rbac.authorization.k8s.io/v1
metadata: {name: health}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: health}
subjects: [{kind: Group, name: "system:authenticated"}]
---
kind: RoleBinding
apiVersion: rbac.authorization.k8s.io/v1
metadata: {name: pods, namespace: dev}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: pods}
subjects:
- {kind: User, name: jane}
- {kind: ServiceAccount, name: robot, namespace: ci}
---
kind: RoleBinding
apiVersion: rbac.authorization.k8s.io/v1
metadata: {name: local-admin, namespace: dev}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: admin}
subjects: [{kind: User, name: dave}]
---
kind: RoleBinding
apiVersion: rbac.authorization.k8s.io/v1
metadata: {name: health-here, namespace: dev}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: health}
subjects: [{kind: User, name: jane}]
"""

ASKED = [
    # user, groups, verb, resource and so on, allowed
    ("jane", [], "get", {"resource": "pods", "namespace": "dev", "name": "x"}, True),
    ("jane", [], "list", {"resource": "pods", "namespace": "dev"}, True),
    ("jane", [], "get", {"resource": "pods", "namespace": "prod"}, False),
    ("jane", [], "get", {"resource": "pods", "namespace": ""}, False),
    ("jane", [], "delete", {"resource": "pods", "namespace": "dev"}, False),
    ("jane", [], "get", {"resource": "pods", "subresource": "log", "namespace": "dev"}, True),
    ("jane", [], "get", {"resource": "pods", "subresource": "exec", "namespace": "dev"}, False),
    ("jane", [], "get", {"resource": "pods", "group": "apps", "namespace": "dev"}, False),
    ("jane", [], "get", {"resource": "configmaps", "namespace": "dev", "name": "my-config"}, True),
    ("jane", [], "get", {"resource": "configmaps", "namespace": "dev", "name": "other"}, False),
    ("jane", [], "create", {"resource": "configmaps", "namespace": "dev"}, False),
    ("jane", [], "patch", {"resource": "deployments", "subresource": "scale", "group": "apps",
                           "namespace": "dev", "name": "x"}, True),
    ("jane", [], "patch", {"resource": "deployments", "group": "apps", "namespace": "dev"}, False),
    ("Jane", [], "get", {"resource": "pods", "namespace": "dev"}, False),
    ("system:serviceaccount:ci:robot", [], "get", {"resource": "pods", "namespace": "dev"}, True),
    ("system:serviceaccount:dev:robot", [], "get", {"resource": "pods", "namespace": "dev"}, False),
    ("root", ["admins"], "delete", {"resource": "nodes", "name": "n1"}, True),
    ("root", ["admins"], "delete", {"resource": "pods", "subresource": "exec",
                                  "namespace": "x"}, True),
    ("root", ["admins"], "get", {"url": "/healthz"}, False),
    ("root", ["admins"], "get", {"url": "/a/b/c"}, False),
    ("bob", ["system:authenticated"], "get", {"url": "/healthz"}, True),
    ("bob", ["system:authenticated"], "get", {"url": "/healthz/etcd"}, False),
    ("bob", ["system:authenticated"], "get", {"url": "/metrics/cadvisor"}, True),
    ("bob", ["system:authenticated"], "post", {"url": "/healthz"}, False),
    ("jane", [], "get", {"url": "/healthz"}, False),
    ("dave", [], "delete", {"resource": "secrets", "namespace": "dev", "name": "s"}, True),
    ("dave", [], "delete", {"resource": "secrets", "namespace": "prod", "name": "s"}, False),
    ("dave", [], "delete", {"resource": "nodes", "name": "n"}, False),
]  # fmt: skip


def rbac_engine() -> Engine:
    return Engine(import_rbac(yaml.safe_load_all(RBAC), "ops").statements)


@pytest.mark.parametrize(("user", "groups", "verb", "what", "allowed"), ASKED)
def test_rbac_answers_as_a_cluster_does(user, groups, verb, what, allowed):
    asked = request(user, verb, what.pop("resource", ""), groups=groups, **what)
    assert rbac_engine().decide(asked).allowed is allowed


def test_what_rbac_writes_it_reads_back_with_the_same_answers():
    first = import_rbac(yaml.safe_load_all(RBAC), "ops").statements
    exported = export_rbac(first)
    assert exported.fidelity is Fidelity.EXACT
    again = Engine(import_rbac(exported.documents, "ops").statements)
    for user, groups, verb, what, _ in ASKED:
        asked = request(user, verb, **{"groups": groups, "resource": "", **what})
        assert again.decide(asked).allowed is rbac_engine().decide(asked).allowed


def manifest(kind: str, name: str, **more: Any) -> dict[str, Any]:
    head = {"kind": kind, "apiVersion": "rbac.authorization.k8s.io/v1"}
    return {**head, "metadata": {"name": name, **more.pop("metadata", {})}, **more}


def bind(role: str) -> dict[str, Any]:
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
    people = [{"kind": "User", "name": "ann"}]
    return manifest("ClusterRoleBinding", role, roleRef=reference, subjects=people)


def test_an_aggregated_role_is_put_together_from_labels_also_through_others():
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    objects = [
        manifest("ClusterRole", "base", metadata={"labels": {"to": "middle"}}, rules=[rule]),
        manifest("ClusterRole", "middle", metadata={"labels": {"to": "top"}}, rules=[],
                 aggregationRule={"clusterRoleSelectors": [{"matchLabels": {"to": "middle"}}]}),
        manifest("ClusterRole", "top", rules=[{**rule, "verbs": ["delete"]}],
                 aggregationRule={"clusterRoleSelectors": [{"matchLabels": {"to": "top"}}]}),
        bind("top"),
    ]  # fmt: skip
    engine = Engine(import_rbac(objects, "ops").statements)
    assert engine.decide(request("ann", "get", "pods", namespace="x"))
    # the control plane overwrites what stands in an aggregated role
    assert not engine.decide(request("ann", "delete", "pods", namespace="x"))


def test_a_binding_to_a_role_that_is_not_there_gives_nothing_and_is_told():
    imported = import_rbac([bind("ghost")], "ops")
    assert imported.statements == ()
    assert "not there" in imported.remarks[0]


@pytest.mark.parametrize(
    ("objects", "error"),
    [
        ([{"kind": "Pod", "apiVersion": "v1"}], Unsupported),
        (["text"], InvalidInput),
        ([manifest("Role", "r", rules=[{"apiGroups": [""], "resources": ["x"]}])], InvalidInput),
        (
            [manifest("Role", "r", rules=[{"nonResourceURLs": ["/"], "verbs": ["get"]}])],
            InvalidInput,
        ),
        ([manifest("Role", "r", rules=[{"verbs": ["get"], "resources": ["x"]}])], InvalidInput),
        ([manifest("Role", "r", rules=[{"verb": ["get"]}])], Unsupported),
        ([manifest("Role", "")], InvalidInput),
    ],
)
def test_a_manifest_that_the_api_server_would_refuse_is_refused(objects, error):
    with pytest.raises(error):
        import_rbac(objects, "ops")


PERMIT = access(Effect.PERMIT, "ops", "_cluster/user/ann", "get", "dev//pods/*")
FORBID = access(Effect.FORBID, "ops", "_cluster/user/ann", "*", "dev//pods/secret")


def test_rbac_cannot_forbid_so_a_wider_export_is_refused_and_a_narrower_one_is_told():
    with pytest.raises(ExportRefused, match="no forbids there"):
        export_rbac([PERMIT, FORBID])
    narrower = export_rbac([PERMIT, FORBID], narrow=True)
    assert narrower.fidelity is Fidelity.NARROWER
    assert narrower.documents == ()
    harmless = access(Effect.FORBID, "ops", "*", "*", "prod/*")
    assert export_rbac([PERMIT, harmless]).fidelity is Fidelity.EXACT


# --- NetworkPolicy ------------------------------------------------------------------------------


def policy(spec: str, namespace: str = "x") -> dict[str, Any]:
    return {
        "kind": "NetworkPolicy",
        "apiVersion": "networking.k8s.io/v1",
        "metadata": {"name": "p", "namespace": namespace},
        "spec": yaml.safe_load(spec),
    }


NAMESPACES = {"x": {"ns": "x"}, "y": {"ns": "y"}, "z": {"ns": "z"}}
PODS = {
    f"{ns}/{pod}": Endpoint(
        ns, pod, {"pod": pod}, NAMESPACES[ns], f"10.{i}.{j}.1", {"web": ("TCP", 80)}
    )
    for i, ns in enumerate(NAMESPACES)
    for j, pod in enumerate("abc")
}
ALL = "podSelector: {}\n"
A = "podSelector: {matchLabels: {pod: a}}\n"


def reaches(
    spec: str | list[str], target: str = "x/a", port: int = 80, protocol: str = "TCP"
) -> str:
    """Which pods may connect to the target, as a list of their names."""
    specs = [spec] if isinstance(spec, str) else spec
    engine = Engine(import_network([policy(each) for each in specs], "ops").statements)
    others = [name for name in PODS if name != target]
    return " ".join(
        name
        for name in others
        if engine.connect(Connection(PODS[name], PODS[target], port, protocol))
    )


EVERYBODY = " ".join(name for name in PODS if name != "x/a")
TABLE = [
    ("nothing isolates", [], EVERYBODY),
    ("deny all ingress", ALL + "policyTypes: [Ingress]", ""),
    ("types default to ingress", ALL, ""),
    ("allow all ingress", ALL + "ingress: [{}]", EVERYBODY),
    ("an empty rule list denies", ALL + "ingress: []", ""),
    ("an empty from is everybody", ALL + "ingress: [{from: []}]", EVERYBODY),
    ("pods of the same namespace", A + "ingress: [{from: [{podSelector: {}}]}]", "x/b x/c"),
    ("one pod", A + "ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]", "x/b"),
    ("namespaces", A + "ingress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}}]}]",
     "y/a y/b y/c"),
    ("all namespaces", A + "ingress: [{from: [{namespaceSelector: {}}]}]", EVERYBODY),
    ("by the namespace's own name",
     A + "ingress: [{from: [{namespaceSelector:"
         " {matchLabels: {kubernetes.io/metadata.name: y}}}]}]",
     "y/a y/b y/c"),
    ("both selectors in one peer are both demanded",
     A + "ingress: [{from: [{namespaceSelector: {matchLabels: {ns: y}},"
         " podSelector: {matchLabels: {pod: b}}}]}]", "y/b"),
    ("two peers are either",
     A + "ingress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}},"
         " {podSelector: {matchLabels: {pod: b}}}]}]", "x/b y/a y/b y/c"),
    ("two rules are either",
     A + "ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]},"
         " {from: [{podSelector: {matchLabels: {pod: c}}}]}]", "x/b x/c"),
    ("In, NotIn, Exists, DoesNotExist",
     A + "ingress: [{from: [{podSelector: {matchExpressions: ["
         "{key: pod, operator: NotIn, values: [b]}, {key: pod, operator: Exists},"
         " {key: gone, operator: DoesNotExist}, {key: pod, operator: In, values: [b, c]}]}}]}]",
     "x/c"),
    ("NotIn holds without the key",
     A + "ingress: [{from: [{podSelector: {matchExpressions: ["
         "{key: tier, operator: NotIn, values: [b]}]}}]}]", "x/b x/c"),
    ("addresses", A + "ingress: [{from: [{ipBlock: {cidr: 10.1.0.0/16}}]}]", "y/a y/b y/c"),
    ("addresses with an exception",
     A + "ingress: [{from: [{ipBlock: {cidr: 10.1.0.0/16, except: [10.1.1.0/24]}}]}]", "y/a y/c"),
    ("the port", A + "ingress: [{ports: [{port: 80}]}]", EVERYBODY),
    ("another port", A + "ingress: [{ports: [{port: 81}]}]", ""),
    ("another protocol", A + "ingress: [{ports: [{port: 80, protocol: UDP}]}]", ""),
    ("a range of ports", A + "ingress: [{ports: [{port: 79, endPort: 81}]}]", EVERYBODY),
    ("a range beside", A + "ingress: [{ports: [{port: 81, endPort: 90}]}]", ""),
    ("a protocol without a port", A + "ingress: [{ports: [{protocol: TCP}]}]", EVERYBODY),
    ("a named port", A + "ingress: [{ports: [{port: web}]}]", EVERYBODY),
    ("a name that no port has", A + "ingress: [{ports: [{port: www}]}]", ""),
    ("another pod is selected", "podSelector: {matchLabels: {pod: b}}", EVERYBODY),
    ("only egress is named", A + "policyTypes: [Egress]", EVERYBODY),
    ("egress rules bring both types", A + "egress: [{}]", ""),
    ("policies are united", [ALL, A + "ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]",
     A + "ingress: [{from: [{podSelector: {matchLabels: {pod: c}}}]}]"], "x/b x/c"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "spec", "expected"), TABLE, ids=[row[0] for row in TABLE])
def test_network_policies_answer_as_the_documentation_says(name, spec, expected):
    assert reaches(spec) == expected


@pytest.mark.parametrize(("name", "spec", "expected"), TABLE, ids=[row[0] for row in TABLE])
def test_what_network_policies_write_they_read_back_with_the_same_answers(name, spec, expected):
    specs = [spec] if isinstance(spec, str) else spec
    first = import_network([policy(each) for each in specs], "ops").statements
    exported = export_network(first)
    assert exported.fidelity is Fidelity.EXACT
    again = Engine(import_network(exported.documents, "ops").statements)
    before = Engine(first)
    for source in PODS.values():
        for target in PODS.values():
            connection = Connection(source, target, 80)
            assert again.connect(connection).allowed is before.connect(connection).allowed


def egress(spec: str) -> Engine:
    return Engine(import_network([policy(spec)], "ops").statements)


def test_egress_is_judged_at_the_source_and_both_ends_must_agree():
    engine = egress(
        A + "policyTypes: [Egress]\negress: [{to: [{podSelector: {matchLabels: {pod: b}}}]}]"
    )
    assert engine.connect(Connection(PODS["x/a"], PODS["x/b"], 80))
    assert not engine.connect(Connection(PODS["x/a"], PODS["x/c"], 80))
    assert engine.connect(Connection(PODS["x/c"], PODS["x/a"], 80))
    outside = Endpoint(ip="93.184.216.34")
    assert not engine.connect(Connection(PODS["x/a"], outside, 443))
    open_out = egress(A + "policyTypes: [Egress]\negress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}]}]")
    assert open_out.connect(Connection(PODS["x/a"], outside, 443))


def test_a_pod_always_reaches_itself():
    engine = egress(ALL + "policyTypes: [Ingress, Egress]")
    assert engine.connect(Connection(PODS["x/a"], PODS["x/a"], 80))


@pytest.mark.parametrize(
    "spec",
    [
        A + "ingress: [{ports: [{port: 90, endPort: 80}]}]",
        A + "ingress: [{ports: [{port: web, endPort: 80}]}]",
        A + "ingress: [{ports: [{port: 70000}]}]",
        A + "ingress: [{ports: [{port: 80, protocol: ICMP}]}]",
        A + "ingress: [{from: [{}]}]",
        A + "ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]",
        A + "ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]}]",
        A + "ingress: [{from: [{ipBlock: {cidr: nonsense}}]}]",
        A + "policyTypes: [Sideways]",
        A + "ingress: [{to: []}]",
        "podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}",
        "podSelector: {matchExpressions: [{key: a, operator: Equals, values: [b]}]}",
    ],
)
def test_a_network_policy_that_the_api_server_would_refuse_is_refused(spec):
    with pytest.raises(InvalidInput):
        import_network([policy(spec)], "ops")


def test_a_network_forbid_cannot_be_said_and_is_refused_even_when_narrowing_cannot_help():
    permits = import_network([policy(A + "ingress: [{}]")], "ops").statements
    forbid = Statement(Effect.FORBID, permits[-1].rule, "ops")
    with pytest.raises(ExportRefused):
        export_network([*permits, forbid])
    assert export_network([*permits, forbid], narrow=True).fidelity is Fidelity.NARROWER
    with pytest.raises(ExportRefused, match="would be free"):
        export_network([forbid], narrow=True)
