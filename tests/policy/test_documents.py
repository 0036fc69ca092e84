"""Documents: what is written is what is read, and a mistake is told with its place."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import ExportRefused, InvalidInput
from mcpcore.policy import Author, Effect, PolicyStore, own
from mcpcore.policy.apply import apply_document, documents_of
from mcpcore.policy.documents import Document, Named, read_document, write_document
from mcpcore.policy.lint import lint
from mcpcore.policy.log import PolicyLog
from mcpcore.policy.notation import dump, dump_all, load_all
from mcpcore.policy.saved import load, save
from tests.ctl.town import run
from tests.policy.test_engine import trees
from tests.policy.world import EDGES, STATEMENTS, access, at

OURS = [s for s in STATEMENTS if s.author == "a"]
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=8)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    chosen = draw(st.lists(st.sampled_from(OURS), max_size=4, unique_by=lambda s: s.id))
    if draw(st.booleans()):
        condition = draw(trees)
        chosen.append(access(Effect.PERMIT, "a", "a/é", "a b", "a/'\"\\\\", condition=condition))
    named = tuple(Named(s, f"n{i}" if i % 2 else "") for i, s in enumerate(chosen))
    settings_ = draw(st.dictionaries(words, words, max_size=2))
    roles = draw(st.lists(st.sampled_from(EDGES), max_size=2))
    return Document("a", "main", named, tuple(roles), settings_)


@settings(deadline=None, max_examples=60)
@given(documents(), st.sampled_from(["yaml", "toml", "json"]))
def test_a_document_is_read_as_it_was_written(document, notation):
    text = dump(write_document(document), notation)
    (data,) = load_all(text, notation)
    assert read_document(data) == document


NET = "tenant: a\nstatements: [{effect: permit, plane: network, namespace: a, "
TWICE = "\n- {name: n, effect: permit, principal: '*', action: '*', resource: '*'}"
GOOD = """
tenant: shop
statements:
- {effect: permit, principal: shop/ann, action: read, resource: shop/x}
"""


def when(clause: str) -> str:
    return GOOD.replace("shop/x", f"shop/x, condition: {clause}")


MISTAKES = {
    "an unknown word": (GOOD + "colour: red", "'colour' means nothing here"),
    "no tenant": ("statements: []", "'tenant' is missing"),
    "a tenant with a slash": ("tenant: a/b", "is no tenant"),
    "an unknown effect": (GOOD.replace("permit", "maybe"), "statement 1"),
    "a missing resource": (GOOD.replace(", resource: shop/x", ""), "'resource' is missing"),
    "a truth value for text": (GOOD.replace("read", "on"), "put quotes"),
    "an unknown operator": (when("{key: k, eq: 1}"), "'eq' means"),
    "no operator": (when("{key: k}"), "one operator"),
    "two operators": (when("{key: k, is: true, less: 1}"), "one operator"),
    "bad CEL": (when("{cel: 'a ='}"), "CEL"),
    "a key twice": (GOOD + "tenant: other", "stands twice"),
    "an alias": ("tenant: &a shop\ndocument: *a", "aliases are not read"),
    "no YAML": ("tenant: [", "no YAML"),
    "a key that is no text": ("1: 2", "is no text"),
    "a name twice": ("tenant: shop\nstatements:" + TWICE + TWICE, "two statements are called 'n'"),
    "isolating access": (GOOD.replace("permit", "isolate"), "only network rules isolate"),
    "a port that is none": (
        NET + "direction: ingress, peers: everybody, ports: [{port: 0}]}]",
        "outside 1..65535",
    ),
    "a direction that is none": (NET + "direction: up}]", "is no direction"),
    "a role without a namespace": ("tenant: a\nroles: [{member: ann, role: a/x}]", "no name"),
    "a list where a table belongs": ("- a", "a table is expected"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_document_is_told_with_its_place(mistake, tmp_path):
    text, expected = MISTAKES[mistake]
    file = tmp_path / "p.yaml"
    file.write_text(text)
    told = run("policy", "lint", str(file))
    assert told.exit_code == 2
    assert told.stderr.count("\n") == 1
    assert str(file) in told.stderr
    assert expected in told.stderr


@given(st.binary(max_size=60))
@settings(deadline=None, max_examples=60)
def test_bytes_that_are_no_saved_policy_are_refused(data):
    with pytest.raises(InvalidInput):
        load(b"mcpolicy" + data)


@settings(deadline=None, max_examples=20)
@given(documents(), documents())
def test_applying_a_document_makes_a_store_say_just_that_and_applying_it_again_nothing(old, new):
    log = PolicyLog()
    log.apply(1, own("a", "a"))
    store = PolicyStore("east/1", prefix=log.prefix)
    for i, document in enumerate((old, new, new)):
        before = len(store.state.entries)
        apply_document(store, document, at(i), Author("a"))
        if i == 2:
            assert len(store.state.entries) == before
    again = load(save(store))
    said = {n.statement.id for d in documents_of(again) for n in d.statements}
    assert said == {n.statement.id for n in new.statements}
    assert {edge for d in documents_of(again) for edge in d.roles} == set(new.roles)


def test_lint_asks_about_what_is_probably_not_meant():
    forbid = access(Effect.FORBID, "a", "*", "*", "a/*")
    odd = [
        access(Effect.PERMIT, "a", "*", "read", "a/x"),
        access(Effect.PERMIT, "a", "a/ann", "*", "*"),
        access(Effect.PERMIT, "a", "a/role/ghost", "read", "a/y"),
        access(Effect.PERMIT, "a", "*", "read", "b/x"),
        access(Effect.PERMIT, "a", "a/ann", "read", "a/*"),
    ]
    found = lint([Document("a", "main", tuple(Named(s) for s in (*odd, forbid)))])
    told = " | ".join(remark.text for remark in found)
    for words in ("permits everybody", "every action on everything", "has no members", "is inert",
                  "never counts"):  # fmt: skip
        assert words in told
    fine = access(Effect.PERMIT, "a", "a/ann", "read", "a/x")
    assert lint([Document("a", "main", (Named(fine),))]) == []


def test_toml_holds_one_document_and_no_other_notation_is_known():
    with pytest.raises(InvalidInput):
        dump_all([{"a": 1}, {"b": 2}], "toml")
    with pytest.raises(InvalidInput):
        dump({}, "ini")
    assert json.loads(dump_all([{"a": 1}, {"b": 2}], "json")) == [{"a": 1}, {"b": 2}]


# --- the command line ---------------------------------------------------------------------------

SHOP = """
tenant: shop
document: web
settings: {contact: ann}
roles: [{member: shop/user/ann, role: shop/role/deployer}]
statements:
- name: deploy
  effect: permit
  principal: shop/role/deployer
  action: [deploy, restart]
  resource: shop/service/*
  condition: {key: mfa, is: true}
- {name: freeze, effect: forbid, principal: "*", action: "*", resource: shop/service/ledger}
"""


@pytest.fixture
def shop(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.yaml").write_text(SHOP)
    (tmp_path / "east.yaml").write_text(SHOP.replace("ann}", "eve}", 1).replace(", restart", ""))
    (tmp_path / "west.yaml").write_text(SHOP.replace("ann}", "bob}", 1).replace("restart", "stop"))
    return tmp_path


def test_explaining_a_request_answers_with_the_exit_status(shop):
    asked = "policy", "explain", "shop.yaml", "-r", "shop/user/ann deploy shop/service/web"
    assert run(*asked, "-f", "mfa=true").exit_code == 0
    denied = run(*asked)
    assert denied.exit_code == 1
    assert "fails at condition: mfa is True (the request has nothing)" in denied.stdout
    told = json.loads(run(*asked, "--json").stdout)
    assert told["reason"] == "NO_PERMIT"


def test_two_clouds_edit_merge_and_decide_on_the_command_line(shop):
    for words in (
        "init east.policy --cloud east --own shop=shop", "apply east.policy shop.yaml",
        "order east.policy", "init west.policy --cloud west --like east.policy",
        "apply east.policy east.yaml", "apply west.policy west.yaml",
    ):  # fmt: skip
        assert run("policy", *words.split()).exit_code == 0, words
    merged = run("policy", "merge", "east.policy", "west.policy")
    assert merged.exit_code == 1
    assert "2 conflicts" in merged.stdout
    lines = run("policy", "conflicts", "east.policy", "--json").stdout.splitlines()
    listed = [json.loads(line) for line in lines]
    assert {each["kind"] for each in listed} == {"edit-race", "multi-value"}
    for each in listed:
        choice = run("policy", "resolve", "east.policy", each["id"], "keep:1", "--as", "shop")
        assert choice.exit_code == 0, choice.output
    assert run("policy", "conflicts", "east.policy").exit_code == 0
    assert run("policy", "merge", "west.policy", "east.policy").exit_code == 0
    assert run("policy", "diff", "east.policy", "west.policy").exit_code == 0
    assert "pending" in run("policy", "show", "west.policy").stdout


def test_a_diff_says_which_way_each_change_goes(shop):
    told = run("policy", "diff", "shop.yaml", "east.yaml")
    assert told.exit_code == 1
    assert "+ loosens" in told.stdout
    assert "- tightens" in told.stdout
    assert run("policy", "diff", "shop.yaml", "shop.yaml").stdout == "no difference\n"


def test_an_export_that_would_be_wider_is_refused_with_one_line(shop):
    refused = run("policy", "export", "shop.yaml", "--to", "kubernetes-rbac")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "would allow more" in refused.stderr
    with pytest.raises(ExportRefused):
        raise ExportRefused("x", ("y",))
    for notation in ("yaml", "toml", "json"):
        told = run("policy", "export", "shop.yaml", "--to", notation)
        (shop / f"again.{notation}").write_text(told.stdout)
        assert run("policy", "diff", "shop.yaml", f"again.{notation}").exit_code == 0


def test_manifests_go_in_and_out_again(shop):
    (shop / "np.yaml").write_text(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"
        "metadata: {name: deny-all, namespace: shop}\nspec: {podSelector: {}}\n"
    )
    told = run("policy", "import", "np.yaml", "--from", "kubernetes-network", "--tenant", "shop")
    (shop / "doc.yaml").write_text(told.stdout)
    written = run("policy", "export", "doc.yaml", "--to", "kubernetes-network")
    assert "kubernetes-network: exact" in written.stderr
    (shop / "np2.yaml").write_text(written.stdout)
    again = run("policy", "import", "np2.yaml", "--from", "kubernetes-network", "--tenant", "shop")
    assert again.stdout.partition("statements")[2] == told.stdout.partition("statements")[2]


def test_roles_and_tenants_do_not_get_lost_in_an_export(shop):
    """A role is written out as its members; what needs another tenant's word stays behind."""
    (shop / "k.yaml").write_text("""
tenant: ops
roles: [{member: _cluster/user/ann, role: ops/role/reader}]
statements:
- {effect: permit, principal: ops/role/reader, action: get, resource: dev//pods/*}
""")
    told = run("policy", "export", "k.yaml", "--to", "kubernetes-rbac")
    assert "name: ann" in told.stdout
    assert "exact" in told.stderr
    (shop / "other.yaml").write_text("tenant: dev\nstatements: []\n")
    told = run("policy", "export", "k.yaml", "other.yaml", "--to", "kubernetes-rbac")
    assert "narrower" in told.stderr or told.stdout == ""


MISUSES = [
    (["merge", "nope.policy", "x"], 2), (["show", "shop.yaml"], 2), (["lint", "shop.txt"], 2),
    (["explain", "shop.yaml", "-r", "two words"], 2), (["init", "shop.yaml", "--cloud", "x"], 2),
    (["init", "x.policy", "--cloud", "x", "--own", "y"], 2),
    (["init", "x.policy", "--cloud", "x", "--trust", "y=zz"], 2),
    (["export", "shop.yaml", "--to", "gcp"], 2),
    (["import", "shop.yaml", "--from", "gcp", "--tenant", "x"], 2),
]  # fmt: skip


@pytest.mark.parametrize(("words", "status"), MISUSES)
def test_a_misuse_is_one_line_and_writes_nothing(shop, words, status):
    told = run("policy", *words)
    assert told.exit_code == status
    assert told.stderr.startswith("mcpctl: ")
    assert told.stderr.count("\n") == 1
    assert sorted(path.name for path in shop.iterdir()) == ["east.yaml", "shop.yaml", "west.yaml"]


def test_the_demo_fits_eighty_columns_and_ends_well():
    told = run("demo", "policy")
    assert told.exit_code == 0, told.output
    assert max(map(len, told.stdout.splitlines())) <= 80
    assert "The merge allowed nothing that no cloud had allowed." in told.stdout
    without = run("demo", "policy", "--optimistic")
    assert without.exit_code == 1
    assert "The merge allowed 1 answer that no cloud had allowed." in without.stdout
