"""The groups that were created or retired while the node ran, in a small file beside its log.

This module exists so that a restarted node serves the groups it served before, with the settings
they were made with, although no configuration file names them; and so that a group which was
retired does not come back because a configuration file still does. The log remembers members and
promises; this file remembers the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from zlib import crc32

import msgpack

from mcpcore.errors import InvalidInput
from mcpcore.node.config import GroupConfig
from mcpcore.node.disk import Disk
from mcpcore.raft.settings import RaftSettings

_MAGIC = b"MCPGRPS1"
_FILE = "groups"
_REMEDY = (
    "Restore the file from a copy, or remove it: groups made at run time are then kept in the log "
    "and not served until a configuration names them"
)


@dataclass(slots=True)
class Catalog:
    """What the configuration does not say.

    Args:
        hosted: groups made at run time, as they were made.
        retired: groups that were retired and not made again.
    """

    hosted: dict[str, GroupConfig] = field(default_factory=dict)
    retired: set[str] = field(default_factory=set)

    def encode(self) -> bytes:
        """The bytes of the file: a mark, a checksum, and a map. Groups made alike, as most are,
        share one description: a thousand of them take some twenty kilobytes.
        """
        kinds: dict[GroupConfig, int] = {}
        hosted = {
            name: kinds.setdefault(made, len(kinds)) for name, made in sorted(self.hosted.items())
        }
        body: bytes = msgpack.packb(
            {
                "kinds": [[list(made.voters), made.settings.as_told()] for made in kinds],
                "hosted": hosted,
                "retired": sorted(self.retired),
            }
        )
        return _MAGIC + crc32(body).to_bytes(4, "big") + body

    @classmethod
    def decode(cls, encoded: bytes) -> Catalog:
        """Read what ``encode`` made.

        Raises:
            InvalidInput: these are not its bytes, or a newer version's.
        """
        head, check, body = encoded[:8], encoded[8:12], encoded[12:]
        if head != _MAGIC:
            raise InvalidInput("not a catalog of groups that this version reads", remedy=_REMEDY)
        if int.from_bytes(check, "big") != crc32(body):
            raise InvalidInput("the catalog of groups is damaged", remedy=_REMEDY)
        try:
            found = msgpack.unpackb(body)
            kinds = [
                GroupConfig(tuple(voters), settings_from(settings))
                for voters, settings in found["kinds"]
            ]
            hosted = {str(name): kinds[kind] for name, kind in found["hosted"].items()}
            return cls(hosted, set(found["retired"]))
        except InvalidInput:
            raise
        except Exception as error:  # whatever a checksummed file of another program holds
            raise InvalidInput(f"not a catalog of groups: {error!r}", remedy=_REMEDY) from error


def settings_from(given: Mapping[str, Any]) -> RaftSettings:
    """Settings by the names of their fields; those that are missing have their defaults.

    Raises:
        InvalidInput: a name or a value that is none.
    """
    known = {each.name for each in fields(RaftSettings)}
    unknown = sorted(set(given) - known)
    if unknown:
        raise InvalidInput(
            f"no such setting: {', '.join(unknown)}",
            remedy=f"The settings are {', '.join(sorted(known))}",
        )
    return RaftSettings(**given)


class CatalogFile:
    """The catalog on a disk, replaced as a whole.

    Args:
        directory: the node's data directory.

    Raises:
        InvalidInput: the file is damaged.
    """

    def __init__(self, disk: Disk, directory: str) -> None:
        self._disk = disk
        self._directory = directory
        self._path = f"{directory}/{_FILE}"
        self.catalog = Catalog()
        if disk.exists(self._path):
            file = disk.open(self._path)
            try:
                self.catalog = Catalog.decode(file.read(0, file.size()))
            except InvalidInput as error:
                raise InvalidInput(error.what, where=self._path, remedy=error.remedy) from error
            finally:
                file.close()

    async def store(self) -> None:
        """Make the catalog durable as it is now.

        Raises:
            OSError: the disk does not take it; the old file stands.
        """
        new = f"{self._path}.new"
        file = self._disk.open(new, create=True)
        try:
            await file.truncate(0)
            await file.write(0, self.catalog.encode(), sync=True)
        finally:
            file.close()
        self._disk.rename(new, self._path)
        await self._disk.sync_dir(self._directory)
