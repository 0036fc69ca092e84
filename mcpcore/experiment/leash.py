"""Run a command that dies with the process that started it. Run by path, never imported.

This file exists so that nodes of an experiment cannot outlive it, not even when it is killed with
SIGKILL and can clean up nothing. Linux remembers for a process which signal it gets when its parent
dies, also across `exec`; this file asks for SIGKILL and then becomes the command. It loads nothing
but what that takes: it runs before every node.

Usage: python -I -S leash.py PARENT-PID COMMAND ARGUMENT...
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Put on the leash and become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL)) != 0:
            sys.exit(f"leash: prctl failed: {os.strerror(ctypes.get_errno())}")
        if os.getppid() != parent:
            sys.exit("leash: the parent died before the leash was on")
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
