"""Which network to make, and which this machine lets us make.

This module exists so that "the best level that is possible here" is decided by trying, in one
place, and so that whoever gets less than the best is told why. It must never guess from versions.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import Final

from mcpcore.errors import ToolFailed
from mcpcore.experiment.loopback import Loopback
from mcpcore.experiment.netns.joints import Bridge
from mcpcore.experiment.netns.namespace import Namespace
from mcpcore.experiment.netns.network import NamespaceNetwork
from mcpcore.experiment.network import Isolation, Network
from mcpcore.experiment.shaper import Shaper

TOOLS: Final = ("ip", "iptables", "iptables-restore", "iptables-save")
"""What namespaces need on the path of programs."""


def network_of(isolation: Isolation, shaper: Shaper, *, linked: bool) -> Network:
    """Make a network, unopened.

    Args:
        shaper: the links of clients, and on loopback those of nodes.
        linked: whether the plan names any links.
    """
    if isolation is Isolation.LOOPBACK:
        return Loopback(shaper, linked=linked)
    return NamespaceNetwork(Bridge(), shaper)


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
