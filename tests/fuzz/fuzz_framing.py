"""A fuzz target for everything that reads a stranger's bytes: frames, hellos, goodbyes.

    pip install atheris
    PYTHONPATH=. python tests/fuzz/fuzz_framing.py -max_total_time=60

``test_fuzz_framing.py`` runs the same function on a bounded number of inputs.
"""

from __future__ import annotations

import sys

from mcpcore.errors import InvalidInput
from mcpcore.node.framing import FrameReader, encode_frame
from mcpcore.node.handshake import Goodbye, Hello


def read_as_a_stranger_sends(data: bytes) -> None:
    """The first byte says how the rest is split; nothing but InvalidInput may come out."""
    step = data[0] + 1 if data else 1
    stream = data[1:]
    whole, pieces = FrameReader(64, 200), FrameReader(64, 200)
    frames = whole.feed(stream)
    split: list[bytes] = []
    for start in range(0, len(stream), step):
        split += pieces.feed(stream[start : start + step])
        pieces.check()
    assert frames == split
    assert (whole.fault is None) == (pieces.fault is None)
    assert stream.startswith(b"".join(map(encode_frame, frames)))
    for payload in [*frames, stream]:
        assert Goodbye.decode(payload).why.isprintable()
        try:
            hello = Hello.decode(payload)
        except InvalidInput:
            continue
        assert Hello.decode(hello.encode()) == hello


if __name__ == "__main__":
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, read_as_a_stranger_sends)
    atheris.Fuzz()
