"""Which network to make, and which this machine lets us make.

This module exists so that "the best level that is possible here" is decided by trying, in one
place, and so that whoever gets less than the best is told why. It must never guess from versions.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from typing import Final

from mcpcore.errors import InvalidInput, ToolFailed
from mcpcore.experiment.loopback import Loopback
from mcpcore.experiment.netns.bridge import Bridge
from mcpcore.experiment.netns.namespace import Namespace
from mcpcore.experiment.netns.network import NamespaceNetwork
from mcpcore.experiment.netns.wide_area import WideArea
from mcpcore.experiment.network import Isolation, Network, Pair
from mcpcore.experiment.shaper import Shaper
from mcpcore.sim.delay import Link

TOOLS: Final = ("ip", "iptables", "iptables-restore", "iptables-save")
"""What namespaces need on the path of programs."""


def network_of(
    isolation: Isolation, shaper: Shaper, shapes: Mapping[Pair, Link], seed: int
) -> Network:
    """Make a network, unopened.

    Args:
        shaper: the links of clients, and on loopback those of nodes.
        shapes: what lies between nodes, packet by packet.
        seed: of what befalls packets.
    """
    match isolation:
        case Isolation.LOOPBACK:
            return Loopback(shaper)
        case Isolation.NETNS:
            loss = {pair: shape.loss for pair, shape in shapes.items()}
            return NamespaceNetwork(Bridge(loss), shaper)
        case Isolation.TUN:
            return NamespaceNetwork(WideArea(shapes, seed), shaper)


async def choose(wanted: Isolation | None) -> tuple[Isolation, str]:
    """The isolation to use, and why no better one, where none was asked for.

    Raises:
        InvalidInput: what was asked for is not to be had here.
    """
    if wanted is not None:
        if why_not := await obstacle(wanted):
            raise InvalidInput(
                why_not,
                where=f"--isolation {wanted.value}",
                remedy="Leave it out for the best that is possible here",
            )
        return wanted, ""
    why_not = ""
    for level in Isolation:
        found = await obstacle(level)
        if not found:
            return level, why_not
        why_not = why_not or found
    raise AssertionError("loopback is always possible")


async def obstacle(isolation: Isolation) -> str:
    """Why this machine does not let us, found by trying; empty if it does."""
    if isolation is Isolation.LOOPBACK:
        return ""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "network namespaces need root"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"{', '.join(missing)} cannot be found (Debian: apt-get install iproute2 iptables)"
    namespace = Namespace("a trial")
    try:
        await namespace.open()
        await namespace.run("iptables", "-w", "-A", "INPUT", "-p", "tcp", "-j", "DROP")
        if isolation is Isolation.TUN:
            os.close(await namespace.tun("trial0"))
    except ToolFailed as error:
        return f"{error.what}: {error.why}"
    finally:
        await namespace.close()
    return ""
