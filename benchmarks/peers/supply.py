"""Peers, each in a place of its own under a cache folder: virtual environments, unpacked packages.

This module exists so that a benchmark can say "etcd" and get a program or a reason why not, without
touching the system: Debian's packages are unpacked, not installed, and nothing of them is started.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mcpcore.errors import InvalidInput

CACHE_VARIABLE = "MCPCORE_BENCH_CACHE"
INSTALL_S = 300


class PeerMissing(Exception):
    """A peer could not be had; the words say why."""


@dataclass(frozen=True, slots=True)
class Venv:
    """Python packages in a virtual environment of their own."""

    packages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Debian:
    """A program of a Debian package."""

    package: str
    binary: str


PEERS: dict[str, Venv | Debian] = {
    "etcd": Debian("etcd-server", "usr/bin/etcd"),
    "etcd-grpc": Venv(("grpcio", "uvloop")),
    "redis": Debian("redis-server", "usr/bin/redis-server"),
    "pysyncobj": Venv(("pysyncobj",)),
    "dbos": Venv(("dbos", "aiosqlite")),
    "hlcpy": Venv(("hlcpy",)),
    "accordsync": Venv(("accordsync-core",)),
    "pycrdt": Venv(("pycrdt",)),
    "cedarpy": Venv(("cedarpy",)),
    "simpy": Venv(("simpy",)),
    "simloop": Venv(("simloop",)),
    "simloom": Venv(("simloom",)),
    "async-solipsism": Venv(("async-solipsism",)),
}


@dataclass(frozen=True, slots=True)
class Supply:
    """A peer that is there.

    Args:
        program: its binary, or the interpreter of its virtual environment.
        version: as it says itself.
    """

    program: Path
    version: str


def cache_folder() -> Path:
    """Where peers are kept between runs."""
    named = os.environ.get(CACHE_VARIABLE)
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(named) if named else Path(base) / "mcpcore-bench"


def known(names: str) -> frozenset[str]:
    """A list of peers, as ``--peers`` takes it: names with commas, ``all`` or ``none``.

    Raises:
        InvalidInput: nobody is called so.
    """
    if names in ("all", "none"):
        return frozenset(PEERS) if names == "all" else frozenset()
    chosen = frozenset(name.strip() for name in names.split(",") if name.strip())
    strange = sorted(chosen - set(PEERS))
    if strange:
        raise InvalidInput(
            f"no peer is called {', '.join(strange)}",
            where="--peers",
            remedy=f"Choose among {', '.join(PEERS)}; or all, or none",
        )
    return chosen


def obtain(name: str) -> Supply:
    """Get a peer: from the cache, from the system, or by installing it into the cache.

    Raises:
        PeerMissing: it cannot be had here.
    """
    match PEERS[name]:
        case Venv(packages):
            return _venv(name, packages)
        case Debian(package, binary):
            return _debian(package, binary)


def _venv(name: str, packages: tuple[str, ...]) -> Supply:
    folder = cache_folder() / f"{name}-py{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / "bin" / "python"
    complete = folder / "complete"
    if not complete.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        _run([sys.executable, "-m", "venv", "--clear", str(folder)], f"a place for {name}")
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, *packages], f"installing {name}")
        complete.touch()
    found = importlib.metadata.distributions(
        path=[str(path) for path in folder.glob("lib/python*/site-packages")]
    )
    versions = {each.metadata["Name"].lower(): each.version for each in found}
    return Supply(python, versions.get(packages[0].lower(), "unknown"))


def _debian(package: str, binary: str) -> Supply:
    installed = shutil.which(Path(binary).name)
    program = Path(installed) if installed else cache_folder() / package / binary
    if not program.exists():
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            raise PeerMissing(f"{Path(binary).name} is not installed, and this is no Debian")
        program.parents[len(Path(binary).parts) - 1].mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            try:
                _run(["apt-get", "download", package], f"fetching {package}", folder)
            except PeerMissing:
                if os.geteuid() != 0:
                    raise
                _run(["apt-get", "update"], "apt-get update", folder)  # the list may be old
                _run(["apt-get", "download", package], f"fetching {package}", folder)
            (file,) = Path(folder).glob("*.deb")
            unpacked = cache_folder() / package
            _run(["dpkg-deb", "--extract", str(file), str(unpacked)], f"unpacking {package}")
    told = _run([str(program), "--version"], f"{program} --version")
    return Supply(program, told.splitlines()[0].removeprefix("etcd Version: ") if told else "?")


def _run(command: list[str], what: str, folder: str | None = None) -> str:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerMissing(f"{what}: {error}") from None
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it failed"]
        raise PeerMissing(f"{what}: {last[0]}")
    return done.stdout.strip()
