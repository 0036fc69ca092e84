"""Bounded slices of the fuzz target: with Hypothesis always, with atheris where it is installed."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.node.framing import encode_frame
from mcpcore.node.handshake import Goodbye, Hello, Versions
from mcpcore.node.identity import Role
from tests.fuzz.fuzz_framing import read_as_a_stranger_sends

HELLO = Hello(Versions(1, 1), "north", "a", "0" * 16, Role.PEER)
pieces = st.sampled_from([HELLO.encode(), Goodbye("busy", "full").encode()]) | st.binary()
mangled = st.lists(pieces.map(encode_frame) | st.binary(max_size=9)).map(b"".join)


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 255), mangled, st.integers(0, 400), st.binary(max_size=3))
def test_no_bytes_of_a_stranger_break_the_parsers(step, stream, at, insertion):
    read_as_a_stranger_sends(bytes([step]) + stream[:at] + insertion + stream[at:])


@pytest.mark.soak
@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris is not installed here"
)
def test_atheris_finds_nothing_in_a_minute():
    target = Path(__file__).with_name("fuzz_framing.py")
    root = Path(__file__).parents[2]
    command = [sys.executable, str(target), "-max_total_time=60", "-max_len=512"]
    done = subprocess.run(
        command,
        cwd=root,
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
