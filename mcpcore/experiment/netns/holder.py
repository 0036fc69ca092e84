"""Hold a network and a mount namespace, and run errands in them. Run by path, never imported.

This file exists so that everything an experiment changes about a machine hangs on one process: the
namespaces have no names, so when their last process ends, the kernel takes back devices, rules and
mounts by itself. The holder ends when whoever started it closes the channel, and dies with it (see
`leash.py`). It loads nothing but what its errands take.

Usage: python -I -S holder.py CHANNEL-FD

The channel is a SEQPACKET socket; each message is a JSON object {"do": ERRAND, ...} and is answered
by one: {"ok": true, ...} or {"ok": false, "why": TEXT}, with a file descriptor where one was asked.
"""

import array
import ctypes
import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
MESSAGE_BYTES_MAX = 1 << 17
TOOL_TIMEOUT_S = 20.0
FILLER = ".filler"
BLOCK_BYTES = 4096

Done = tuple[dict[str, Any], int | None]
"""What to answer, and a descriptor to send along."""


def libc(name: str, *arguments: object) -> None:
    """Call the C library; an error becomes an OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def enter() -> None:
    """Leave the namespaces we were started in."""
    libc("unshare", CLONE_NEWNET | CLONE_NEWNS)
    # Else a mount made here would show up, and stay, outside.
    libc("mount", b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, capture_output=True)


def run(argv: list[str], text: str = "") -> Done:
    """Run a tool here."""
    done = subprocess.run(
        argv, input=text, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=False
    )
    return {"status": done.returncode, "out": done.stdout, "err": done.stderr}, None


def new_socket() -> Done:
    """A TCP socket that belongs to this network, wherever it is used."""
    return {}, socket.socket(socket.AF_INET, socket.SOCK_STREAM).detach()


def tun(name: str) -> Done:
    """A TUN device; it is gone when its descriptor is closed."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return {}, fd


def mount_tmpfs(path: str, size_bytes: int) -> Done:
    """A small disk at a path, seen only in here."""
    options = ctypes.c_char_p(f"size={size_bytes},mode=700".encode())
    libc("mount", b"tmpfs", path.encode(), b"tmpfs", ctypes.c_ulong(0), options)
    return {}, None


def fill(path: str) -> Done:
    """Write until no byte more fits."""
    with open(os.path.join(path, FILLER), "ab", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(BLOCK_BYTES))
        except OSError as error:
            why = error.strerror
        size = filler.tell()
    return {"filled_bytes": size, "free_bytes": free(path), "why_full": why}, None


def drain(path: str) -> Done:
    """Give the room back."""
    os.unlink(os.path.join(path, FILLER))
    return {"free_bytes": free(path)}, None


def keep(path: str, to: str) -> Done:
    """Copy a tree of this mount namespace to a place where the outside sees it, too."""
    shutil.copytree(path, to, dirs_exist_ok=True, ignore=shutil.ignore_patterns(FILLER))
    return {}, None


def free(path: str) -> int:
    """Bytes that still fit."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


ERRANDS: dict[str, Callable[..., Done]] = {
    "run": run,
    "socket": new_socket,
    "tun": tun,
    "mount_tmpfs": mount_tmpfs,
    "fill": fill,
    "drain": drain,
    "keep": keep,
}


def reply(channel: socket.socket, answer: dict[str, Any], fd: int | None = None) -> None:
    """Send an answer, and a descriptor with it."""
    ancillary: list[tuple[int, int, array.array[int]]] = []
    if fd is not None:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
    channel.sendmsg([json.dumps(answer).encode()], ancillary)
    if fd is not None:
        os.close(fd)


def main() -> None:
    """Say that the namespaces stand (or why not), then run errands until the channel closes."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    try:
        enter()
    except (OSError, subprocess.SubprocessError) as error:
        reply(channel, {"ok": False, "why": str(error)})
        return
    reply(channel, {"ok": True})
    while message := channel.recv(MESSAGE_BYTES_MAX):
        errand = json.loads(message)
        try:
            answer, fd = ERRANDS[errand.pop("do")](**errand)
        except (OSError, subprocess.SubprocessError) as error:
            reply(channel, {"ok": False, "why": str(error)})
        else:
            reply(channel, {"ok": True, **answer}, fd)


if __name__ == "__main__":
    main()
