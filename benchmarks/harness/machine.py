"""Where a run took place: processor, memory, disk, load, versions, commit.

This module exists so that no figure travels without its machine. It reads, and never fails: what
cannot be found out is called unknown.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNKNOWN = "unknown"


def describe(scratch: Path) -> dict[str, str]:
    """The machine, in words. ``scratch`` is where the benchmarks write."""
    one, five, _ = os.getloadavg()
    cores = os.cpu_count() or 1
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(cores),
        "memory": _memory(),
        "file system": _file_system(scratch),
        "load before the run": f"{one:.1f} over 1 min, {five:.1f} over 5 min, on {cores} cores",
        **{name: _version(name) for name in ("uvloop", "msgpack", "cryptography")},
    }


def now() -> str:
    """In ISO 8601, to the second, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def commit() -> str:
    """Of the tree that is measured; says so if the tree differs from it."""
    head = _git("rev-parse", "--short=12", "HEAD")
    if not head:
        return UNKNOWN
    return head + (" and changes" if _git("status", "--porcelain", "-uno") else "")


def loaded() -> float:
    """How many processes want a core, for each core."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def _git(*words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _processor() -> str:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or UNKNOWN


def _memory() -> str:
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemTotal"):
            return f"{int(line.split()[1]) / 2**20:.0f} GiB"
    return UNKNOWN


def _file_system(path: Path) -> str:
    best = ("", UNKNOWN)
    for line in _lines("/proc/mounts"):
        device, point, kind = line.split()[:3]
        if path.resolve().is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, f"{kind} on {device}")
    return best[1]


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
