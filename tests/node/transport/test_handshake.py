from dataclasses import replace

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import HandshakeRefused, InvalidInput
from mcpcore.node.transport.framing import FIRST_FRAME_BYTES
from mcpcore.node.transport.handshake import (
    GOODBYE,
    Goodbye,
    Hello,
    Parting,
    Versions,
    agree,
    expect_node,
)
from mcpcore.node.transport.identity import MAY_ASK, CertifiedRole, Identity, Role

OURS = Hello(Versions(2, 4), "north", "b", "0" * 16, Role.PEER)
THEIRS = Hello(Versions(1, 3), "north", "a", "00000000deadbeef", Role.PEER, dial=7)

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True)
hellos = st.builds(
    Hello,
    versions=st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda v: Versions(*sorted(v))),
    cluster=names,
    name=names,
    incarnation=st.integers(0, 2**64 - 1).map("{:016x}".format),
    role=st.sampled_from(Role),
    dial=st.integers(0, 2**63 - 1),
    traces=st.booleans(),
)


@settings(deadline=None)
@given(hellos)
def test_a_hello_is_read_as_it_was_written_and_fits_the_first_frame(hello):
    assert Hello.decode(hello.encode()) == hello
    assert len(hello.encode()) <= FIRST_FRAME_BYTES


@settings(deadline=None)
@given(st.binary(max_size=200) | hellos.map(lambda h: h.encode()[:-3]))
def test_any_bytes_are_a_hello_or_invalid_input(payload):
    with pytest.raises(InvalidInput):
        Hello.decode(payload)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@settings(deadline=None)
@given(
    hellos,
    st.sampled_from(["magic", "versions", "cluster", "name", "incarnation", "role", "dial"]),
    json_like,
)
def test_a_hello_with_any_value_in_any_field_is_a_hello_or_invalid_input(hello, field, value):
    fields = msgpack.unpackb(hello.encode())
    fields[field] = value
    try:
        read = Hello.decode(msgpack.packb(fields))
    except InvalidInput:
        return
    assert Hello.decode(read.encode()) == read


def test_a_field_of_a_later_version_is_skipped():
    fields = msgpack.unpackb(THEIRS.encode()) | {"compression": ["zstd"]}
    assert Hello.decode(msgpack.packb(fields)) == THEIRS


@settings(deadline=None)
@given(st.text(), st.text())
def test_a_goodbye_is_one_printable_line_that_fits_the_first_frame(code, why):
    payload = Goodbye(code, why.encode("utf-8", "replace").decode()).encode()
    assert payload[0] == GOODBYE
    assert len(payload) <= FIRST_FRAME_BYTES
    assert Goodbye.decode(payload).why.isprintable()


@settings(deadline=None)
@given(st.binary())
def test_a_garbled_goodbye_is_a_goodbye_all_the_same(payload):
    assert isinstance(Goodbye.decode(bytes([GOODBYE]) + payload), Goodbye)


def test_no_msgpack_value_begins_like_a_goodbye():
    with pytest.raises(msgpack.FormatError):
        msgpack.unpackb(bytes([GOODBYE]))


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [((1, 1), (1, 1), 1), ((1, 3), (2, 5), 3), ((2, 5), (1, 3), 3), ((1, 9), (4, 4), 4)],
)
def test_the_highest_common_version_is_spoken(ours, theirs, agreed):
    ours = replace(OURS, versions=Versions(*ours))
    theirs = replace(THEIRS, versions=Versions(*theirs))
    assert agree(ours, theirs, None) == agree(theirs, ours, None) == agreed


def test_without_a_common_version_the_refusal_names_both_ranges():
    with pytest.raises(HandshakeRefused, match=r"5 to 6.*2 to 4") as refusal:
        agree(OURS, replace(THEIRS, versions=Versions(5, 6)), None)
    assert refusal.value.code == Parting.VERSION


def test_another_cluster_is_refused_whoever_signed_for_it():
    with pytest.raises(HandshakeRefused, match=r"south.*north") as refusal:
        agree(OURS, replace(THEIRS, cluster="south"), None)
    assert refusal.value.code == Parting.CLUSTER


def test_a_certificate_of_another_cluster_is_refused_though_its_owner_lies():
    with pytest.raises(HandshakeRefused, match="south") as refusal:
        agree(OURS, THEIRS, Identity("south", CertifiedRole.NODE, "a"))
    assert refusal.value.code == Parting.CLUSTER


def test_a_node_that_borrows_a_name_is_refused():
    with pytest.raises(HandshakeRefused, match="claims to be a") as refusal:
        agree(OURS, THEIRS, Identity("north", CertifiedRole.NODE, "c"))
    assert refusal.value.code == Parting.IDENTITY


@pytest.mark.parametrize("certified", CertifiedRole)
@pytest.mark.parametrize("asked", Role)
def test_a_certificate_opens_its_own_doors_only(certified: CertifiedRole, asked: Role):
    """Written out again here, so that a slip in the table shows."""
    allowed = {("node", "peer"), ("client", "client"), ("admin", "client"), ("admin", "admin")}
    theirs = replace(THEIRS, role=asked)
    if (certified.value, asked.value) in allowed:
        assert agree(OURS, theirs, Identity("north", certified, "a")) == 3
    else:
        with pytest.raises(HandshakeRefused) as refusal:
            agree(OURS, theirs, Identity("north", certified, "a"))
        assert refusal.value.code == Parting.ROLE
    assert set(MAY_ASK) == set(CertifiedRole)


def test_a_caller_refuses_another_node_than_the_one_it_called():
    with pytest.raises(HandshakeRefused, match="a answers where c is expected"):
        expect_node(THEIRS, None, "c")
    expect_node(THEIRS, None, "a")
    expect_node(THEIRS, None, None)


def test_a_client_that_answers_in_a_nodes_place_is_refused():
    with pytest.raises(HandshakeRefused) as refusal:
        expect_node(THEIRS, Identity("north", CertifiedRole.CLIENT, "a"), "a")
    assert refusal.value.code == Parting.ROLE
    with pytest.raises(HandshakeRefused):
        expect_node(replace(THEIRS, role=Role.CLIENT), None, "a")


@pytest.mark.parametrize(
    "uri",
    [
        "mcpcore://north/node",
        "mcpcore://north/node/a/b",
        "mcpcore://north/boss/a",
        "mcpcore:///node/a",
        "mcpcore://north/node/..",
        "mcpcore://north/node/a?b",
        "spiffe://north/node/a",
    ],
)
def test_what_is_no_identity_is_refused(uri: str):
    with pytest.raises(InvalidInput):
        Identity.parse(uri)


@settings(deadline=None)
@given(names, st.sampled_from(CertifiedRole), names)
def test_an_identity_is_read_as_it_was_written(cluster, role, name):
    identity = Identity(cluster, role, name)
    assert Identity.parse(identity.uri) == identity


@pytest.mark.parametrize("uris", [[], ["mcpcore://n/node/a", "mcpcore://n/node/b"]])
def test_a_certificate_names_exactly_one(uris: list[str]):
    with pytest.raises(InvalidInput, match="exactly one"):
        Identity.among([*uris, "https://example.net"], where="a.crt")
