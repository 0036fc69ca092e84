"""No byte is damaged, and none moves the cursor."""

from __future__ import annotations

import json
import re
from base64 import b64decode

from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.ctl.output import as_json, readable


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.binary(), st.text().map(str.encode)))
def test_readable_text_is_printable_and_can_be_turned_back(data):
    text = readable(data)

    assert text.isprintable()
    assert turned_back(text) == data


def turned_back(text: str) -> bytes:
    def byte_or_character(match: re.Match[str]) -> str:
        spelled = match[0]
        if spelled.startswith(r"\x"):
            return bytes([int(spelled[2:], 16)]).decode("utf-8", "surrogateescape")
        return spelled.encode().decode("unicode_escape")

    spelling = r"\\x..|\\u....|\\U........|\\."
    told = re.sub(spelling, byte_or_character, text)
    return told.encode("utf-8", "surrogateescape")


def test_an_escape_sequence_is_spelled_out():
    assert readable(b"\x1b[2J\tab\n") == r"\x1b[2J\tab\n"
    assert readable(b"\xff\\") == r"\xff\\"


def test_what_is_kept_is_kept():
    assert readable("zwei\nZeilen, ä".encode(), keep="\n") == "zwei\nZeilen, ä"


@settings(deadline=None)
@given(st.binary())
def test_json_holds_every_byte(data):
    told = json.loads(json.dumps(as_json("value", data)))

    back = told["value"].encode() if "value" in told else b64decode(told["value_base64"])
    assert back == data
