"""How commands, requests and results become bytes: a msgpack array, its first item the kind.

This module exists so that nothing read from a log or a network is believed before its shape was
compared, once and in one place, with the shapes that are allowed. It knows no command and no
result by name. It must never look at what a field means; the machine does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import NoneType
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgpack

from mcpcore.errors import InvalidInput
from mcpcore.node.kv.records import Event, EventKind, KeyValue

T = TypeVar("T")
Shape = tuple[type, ...]

# Looked up once: decoding stands on the hot path of every member.
_unpack: Final = msgpack.unpackb
_new: Final = tuple.__new__

RECORD: Final[Shape] = (bytes, bytes, int, int, int, int)


class Form(NamedTuple):
    """One kind of message: its tag, its class, the shapes its fields may have."""

    tag: int
    kind: type
    shapes: frozenset[Shape]
    read: Callable[[tuple[object, ...]], tuple[object, ...]] | None = None
    """Turns nested fields into their classes, raising ValueError on what is wrong in them."""
    write: Callable[[Any], tuple[object, ...]] | None = None
    """The reverse, for fields whose class says more than their own fields do."""


def form(
    tag: int,
    kind: type,
    *fields: type | tuple[type, ...],
    read: Callable[[tuple[object, ...]], tuple[object, ...]] | None = None,
    write: Callable[[Any], tuple[object, ...]] | None = None,
) -> Form:
    """Describe a message; a field given as a tuple of types may have any of them."""
    shapes: list[Shape] = [(int,)]
    for field in fields:
        choices = field if isinstance(field, tuple) else (field,)
        shapes = [(*shape, choice) for shape in shapes for choice in choices]
    return Form(tag, kind, frozenset(shapes), read, write)


class Codec(Generic[T]):
    """Encodes and decodes the messages of one table of forms.

    Args:
        name: what such a message is called in an error.
        forms: every kind of message, tags and classes unique.
    """

    __slots__ = ("_by_tag", "_name", "_pack", "_tags", "_writers")

    def __init__(self, name: str, forms: Iterable[Form]) -> None:
        self._name = name
        self._by_tag = {each.tag: each for each in forms}
        self._tags: dict[type, int] = {each.kind: each.tag for each in self._by_tag.values()}
        self._writers = {each.kind: each.write for each in self._by_tag.values() if each.write}
        self._pack: Callable[[object], bytes] = msgpack.Packer().pack  # 0.4 us less than packb

    def encode(self, message: T) -> bytes:
        """The bytes of a message.

        Raises:
            InvalidInput: it is of no known kind, or a field has the wrong type.
        """
        try:
            return self._pack(self.fields(message))
        except (OverflowError, ValueError, TypeError) as error:
            raise InvalidInput(f"{error} in {message!r}", where=self._name) from error

    def fields(self, message: T) -> tuple[object, ...]:
        """The tag and the fields of a message, to be packed alone or inside another one.

        Raises:
            InvalidInput: as ``encode``.
        """
        tag = self._tags.get(type(message))
        if tag is None:
            raise InvalidInput(f"{message!r} is no {self._name}")
        fields = (tag, *message)  # type: ignore[misc]  # every kind is a NamedTuple
        if tuple(map(type, fields)) not in self._by_tag[tag].shapes:
            raise InvalidInput(f"a field has the wrong type in {message!r}", where=self._name)
        write = self._writers.get(type(message))
        return fields if write is None else (tag, *write(message))

    def encode_own(self, message: T) -> bytes:
        """The bytes of a message that this library made itself, not looked at again."""
        write = self._writers.get(type(message))
        body = message if write is None else write(message)
        return self._pack((self._tags[type(message)], *body))  # type: ignore[misc]

    def decode(self, data: bytes) -> T:
        """Read a message, believing nothing of it but its shape.

        Raises:
            InvalidInput: the bytes are no message of this table.
        """
        try:
            fields = _unpack(data, use_list=False)
        except Exception as error:  # msgpack raises several unrelated classes
            raise InvalidInput(f"not a {self._name} known here: {error!r}") from error
        try:
            return self.read(fields)
        except ValueError as error:
            raise InvalidInput(str(error)) from error

    def read(self, fields: Any) -> T:
        """A message from its tag and its fields. Raises ValueError if they are none."""
        try:
            _, kind, shapes, read, _ = self._by_tag[fields[0]]
        except (TypeError, LookupError) as error:
            raise ValueError(f"not a {self._name} known here: {error!r}") from error
        if tuple(map(type, fields)) not in shapes:  # the tag's own type is part of the shape
            raise ValueError(f"the fields of {kind.__name__} have other types")
        body = fields[1:]
        if read is not None:
            try:
                body = read(body)
            except ValueError as error:
                raise ValueError(f"in {kind.__name__}: {error}") from error
        message: T = _new(kind, body)
        return message


def read_record(value: object) -> KeyValue:
    """A record from its decoded fields. Raises ValueError if they are not one."""
    if type(value) is not tuple or tuple(map(type, value)) != RECORD:
        raise ValueError("not a record")
    return KeyValue(*value)


def read_optional_record(value: object) -> KeyValue | None:
    """A record or None. Raises ValueError if it is neither."""
    return None if value is None else read_record(value)


def read_many(value: object, read: Callable[[object], T]) -> tuple[T, ...]:
    """A tuple whose items are read one by one. Raises ValueError if it is none."""
    if type(value) is not tuple:
        raise ValueError("not an array")
    return tuple(map(read, value))


def read_event(value: object) -> Event:
    """An event from its decoded fields. Raises ValueError if they are not one."""
    if type(value) is not tuple or len(value) != 3 or type(value[2]) is not int:
        raise ValueError("not an event")
    kind, record, previous_revision = value
    if type(kind) is not int:
        raise ValueError("not a kind of event")
    return Event(EventKind(kind), read_record(record), previous_revision)


def read_number(value: object) -> int:
    """A whole number. Raises ValueError if it is none."""
    if type(value) is not int:
        raise ValueError("not a number")
    return value


def read_bytes(value: object) -> bytes:
    """A byte string. Raises ValueError if it is none."""
    if type(value) is not bytes:
        raise ValueError("not bytes")
    return value


OPTIONAL_NUMBER: Final = (NoneType, int)
OPTIONAL_BYTES: Final = (NoneType, bytes)
EXPECTATION: Final = (NoneType, bytes, int)
