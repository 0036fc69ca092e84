"""Run a command that dies with the process that started it. Run by path, never imported.

This file exists so that nodes of an experiment cannot outlive it, not even when it is killed with
SIGKILL and can clean up nothing. Linux remembers for a process which signal it gets when its parent
dies, also across `exec`; this file asks for SIGKILL and then becomes the command. It loads nothing
but what that takes: it runs before every node. On the way it can enter namespaces, given as files.

Usage: python -I -S leash.py PARENT-PID [--enter FILE]... COMMAND ARGUMENT...
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Put on the leash and become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    entrances = []
    while command[0] == "--enter":
        entrances.append(command[1])
        del command[:2]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL)) != 0:
            sys.exit(f"leash: prctl failed: {os.strerror(ctypes.get_errno())}")
        if os.getppid() != parent:
            sys.exit("leash: the parent died before the leash was on")
        enter(libc, entrances)
    os.execv(command[0], command)


def enter(libc: ctypes.CDLL, entrances: list[str]) -> None:
    """Enter namespaces; all are opened first, since one of them may hide the others' files."""
    folder = os.getcwd()
    files = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in entrances]
    for path, fd in zip(entrances, files, strict=True):
        if libc.setns(fd, 0) != 0:
            sys.exit(f"leash: cannot enter {path}: {os.strerror(ctypes.get_errno())}")
    os.chdir(folder)  # the same path may mean another place now


if __name__ == "__main__":
    main()
