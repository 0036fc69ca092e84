import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput
from mcpcore.node.addresses import Address

GOOD = {
    "10.0.0.1:7400": Address("10.0.0.1", 7400),
    "[::1]:7400": Address("::1", 7400),
    "[2001:DB8::0:1]:1": Address("2001:db8::1", 1),
    "db1.example.net:65535": Address("db1.example.net", 65535),
    "us-east-1:7400": Address("us-east-1", 7400),
    "localhost:7400": Address("localhost", 7400),
}
BAD = {
    "10.0.0.1": "has no port",
    "": "has no port",
    ":7400": "has no host",
    "::1:7400": "without brackets",
    "[10.0.0.1]:7400": "no IPv6 address",
    "[]:7400": "no IPv6 address",
    "10.0.0.1:": "no port between",
    "10.0.0.1:0": "no port between",
    "10.0.0.1:65536": "no port between",
    "10.0.0.1:-1": "no port between",
    "10.0.0.1:+1": "no port between",
    "10.0.0.1:٣": "no port between",
    "10.0.0.256:7400": "neither an IPv4 address nor a host name",
    "10.0.0:7400": "neither",
    "a b:7400": "neither",
    " a:7400": "neither",
    "-a:7400": "neither",
    "a..b:7400": "neither",
    "http://a:7400": "without brackets",
    "ä.example:7400": "neither",
    "a/b:7400": "neither",
}


@pytest.mark.parametrize("text", GOOD)
def test_an_address_is_read(text: str):
    assert Address.parse(text) == GOOD[text]


@pytest.mark.parametrize("text", GOOD)
def test_an_address_is_written_as_it_is_read(text: str):
    assert Address.parse(str(Address.parse(text))) == GOOD[text]


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_address_is_refused_with_a_reason_and_a_remedy(text: str):
    with pytest.raises(InvalidInput, match=BAD[text]) as refusal:
        Address.parse(text, where="node.toml, listen")
    assert refusal.value.where == "node.toml, listen"
    assert refusal.value.remedy


@settings(deadline=None)
@given(st.text() | st.from_regex(r"[\[\]:.0-9a-f%]{0,20}"))
def test_any_text_is_an_address_or_invalid_input(text: str):
    try:
        address = Address.parse(text)
    except InvalidInput:
        return
    assert Address.parse(str(address)) == address


def test_port_0_is_for_listening_only():
    assert Address.parse("127.0.0.1:0", listening=True).port == 0


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("128.0.0.1:1", False),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("localhost:1", False),
    ],
)
def test_loopback_is_a_literal_never_a_name(text: str, loopback: bool):
    assert Address.parse(text).is_loopback is loopback
