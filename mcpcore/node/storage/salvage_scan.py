"""Reading a damaged write-ahead log to its end: what is sound, and what each damage may have held.

This module exists so that damage becomes a value instead of an end. Where ``wal_recovery`` stops at
the first byte that it cannot believe, this goes on and says what lies behind. It only reads, and it
takes nothing for granted: a damaged batch is known by the table in its own head, or by the echo in
the batch after it, or not at all. What that means for a group is ``salvage``'s business.

The rule that tells a torn tail from rot is ``wal_recovery``'s: damage counts as rot only if
something later proves that the bytes were durable. A torn tail was never acknowledged, so it is
left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from mcpcore.errors import InvalidInput
from mcpcore.node.disk import Disk
from mcpcore.node.storage.contract import Identity
from mcpcore.node.storage.log_image import Echo, EntriesNoted, Record
from mcpcore.node.storage.wal_format import (
    BEGINS,
    ECHO,
    LOST_NAMES,
    SECTOR_BYTES,
    SegmentHeader,
    Unreadable,
    find_later_head,
    peek_sequence,
    read_each,
    read_head,
    segment_seed,
)
from mcpcore.node.storage.wal_recovery import origin_of, read_file, segment_numbers, segment_path


@dataclass(frozen=True, slots=True)
class LostBatches:
    """Batches of which nothing is known but that they were durable."""

    count: int | None
    """How many; None if that is unknown too."""


Item = Record | EntriesNoted | Unreadable | LostBatches
"""One thing that a log said, or that it said something that is lost. ``EntriesNoted`` stands for
entries of which only the indexes are known."""


@dataclass(frozen=True, slots=True)
class Damage:
    """A place where a log is not what it was.

    Args:
        path: the file.
        offset: the first byte that is not believed.
        end: the first byte after it that is.
        problem: what is wrong, in words.
        resolved: whether everything but the contents of entries is known nevertheless.
    """

    path: str
    offset: int
    end: int
    problem: str
    resolved: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """A batch, or what is left of one or several.

    Args:
        sequence: of the batch, or of the last one that is lost.
        items: what it said.
        head_of_segment: whether it is the first of a segment, and thus tells of every group.
        damage: what is wrong with it, if anything.
        segment: the number of the file.
    """

    segment: int
    sequence: int
    items: tuple[Item, ...]
    head_of_segment: bool
    damage: Damage | None = None


class SalvageScan:
    """One pass over a damaged log. Iterate it once; the attributes are right after that.

    Attributes:
        segments: the numbers of the files.
        identity: whose log it is; None if no header can be read.
        amnesia: whether a header says that groups were lost by name before.
        next_sequence: after the last batch.
    """

    def __init__(self, disk: Disk, directory: str) -> None:
        self._disk = disk
        self._directory = directory
        numbers = segment_numbers(disk, directory)
        origin = origin_of(disk, directory, numbers)
        self.segments = [number for number in numbers if number >= origin]
        self.amnesia = False
        self.next_sequence = 1
        self._end = 0
        self._seal: Piece | None = None
        self._headers = {number: self._sound_header(number) for number in self.segments}
        owners = [header.identity for header in self._headers.values() if header is not None]
        self.identity: Identity | None = owners[-1] if owners else None
        for number, header in self._headers.items():
            if header is not None and header.identity != self.identity:
                self._headers[number] = None  # somebody else's file, and not believed

    def __iter__(self) -> Iterator[Piece]:
        """Every piece, in order, with the echoes of later batches put in where they help."""
        before: Piece | None = None
        for piece in self._pieces():
            if before is not None:
                yield _with_echo(before, piece)
            before = piece
        if before is not None:
            yield _with_echo(before, self._seal)

    def _pieces(self) -> Iterator[Piece]:
        expected: int | None = None
        previous = 0
        for number in self.segments:
            path = segment_path(self._directory, number)
            buffer = read_file(self._disk, path)
            if previous and number != previous + 1:
                gap = Damage(path, 0, 0, f"{number - previous - 1} segments before it are missing")
                yield Piece(number, expected or 0, (LostBatches(None),), False, gap)
                expected = None
            previous = number
            found = self._header(number, buffer, expected)
            if found is None:
                lost = Damage(path, 0, len(buffer), "the segment's header cannot be made out")
                yield Piece(number, expected or 0, (LostBatches(None),), False, lost)
                expected = None
                continue
            header, seed = found
            if header != self._headers[number]:
                what = "the segment's header is damaged; it was made out from its surroundings"
                yield Piece(
                    number, 0, (), False, Damage(path, 0, SECTOR_BYTES, what, resolved=True)
                )
            self.amnesia = self.amnesia or header.origin == LOST_NAMES
            if expected is not None and header.first_sequence > expected:
                place = segment_path(self._directory, number - 1)
                count = header.first_sequence - expected
                gap = Damage(place, self._end, self._end, f"{_batches(count)} at the end: gone")
                yield Piece(number, header.first_sequence - 1, (LostBatches(count),), False, gap)
            expected = header.first_sequence
            repeating = not header.origin and (number == 1 or number != self.segments[0])
            for piece in self._segment(number, path, buffer, seed, expected, repeating=repeating):
                yield piece
                expected = max(expected, piece.sequence + 1)
            self.next_sequence = expected

    def _segment(
        self, number: int, path: str, buffer: bytes, seed: int, expected: int, *, repeating: bool
    ) -> Iterator[Piece]:
        offset = SECTOR_BYTES
        while True:
            self._end = offset
            first = offset == SECTOR_BYTES
            head = read_head(buffer, offset, seed)
            if head is not None and head.seal and head.sequence == expected:
                items = tuple(read_each(buffer, head))
                self._seal = Piece(number, expected, items, False)
                return
            if head is not None and head.sequence == expected:
                items = tuple(read_each(buffer, head))
                bad = [item for item in items if isinstance(item, Unreadable)]
                if not bad:
                    yield Piece(number, expected, items, first)
                    offset, expected = head.end, expected + 1
                    continue
                if not (first or self._proven(number, buffer, offset, seed, expected)):
                    return  # a torn tail
                damage = Damage(path, offset, head.end, bad[0].problem)
                yield Piece(number, expected, items, first, damage)
                offset, expected = head.end, expected + 1
                continue
            later = find_later_head(buffer, offset, seed, expected)
            if later is None:
                if first:
                    what = "nothing in the segment is sound"
                    damage = Damage(path, offset, len(buffer), what)
                    yield Piece(number, expected, (LostBatches(None),), first, damage)
                return  # a torn tail, or what the next segment's header tells
            count = later.sequence - expected
            what = f"{_batches(count)} from number {expected} on, once durable, cannot be read"
            # The first batch of a segment repeats what is known, unless nothing was before it.
            repeats = first and count == 1 and repeating
            damage = Damage(path, offset, later.offset, what, resolved=repeats)
            gone: tuple[Item, ...] = () if repeats else (LostBatches(count),)
            yield Piece(number, later.sequence - 1, gone, first and not repeats, damage)
            offset, expected = later.offset, later.sequence

    def _proven(self, number: int, buffer: bytes, offset: int, seed: int, sequence: int) -> bool:
        """Whether anything later proves that a batch was durable."""
        return number != self.segments[-1] or (
            find_later_head(buffer, offset, seed, sequence) is not None
        )

    def _sound_header(self, number: int) -> SegmentHeader | None:
        path = segment_path(self._directory, number)
        try:
            header = SegmentHeader.decode(read_file(self._disk, path, SECTOR_BYTES))
        except InvalidInput:
            return None
        return header if header.number == number else None

    def _header(
        self, number: int, buffer: bytes, expected: int | None
    ) -> tuple[SegmentHeader, int] | None:
        """The segment's header and the seed of its checksums; made out anew if it is damaged.

        All of a header but the sequence is known from other segments. A guess is right if the seed
        that follows from it makes a batch sound.
        """
        header = self._headers[number]
        if header is not None and (expected is None or header.first_sequence >= expected):
            return header, segment_seed(buffer)
        if self.identity is None:
            return None
        sequences = [expected, peek_sequence(buffer, SECTOR_BYTES)]
        for sequence in dict.fromkeys(sequence for sequence in sequences if sequence is not None):
            for origin in (0, BEGINS, LOST_NAMES):
                guess = SegmentHeader(self.identity, number, sequence, origin)
                seed = segment_seed(guess.encode())
                if find_later_head(buffer, SECTOR_BYTES, seed, sequence - 1) is not None:
                    return guess, seed
        return None


def _with_echo(damaged: Piece, after: Piece | None) -> Piece:
    """What the batch (or seal) after a damaged one repeats of it, instead of what is lost."""
    if damaged.damage is None or after is None or after.sequence != damaged.sequence + 1:
        return damaged
    echo = next((item for item in after.items if isinstance(item, Echo)), None)
    if echo is None:
        return damaged
    items: tuple[Item, ...] = echo.records
    lost = damaged.items[0] if damaged.items else None
    if isinstance(lost, LostBatches):
        resolved = lost.count == 1
        if not resolved:  # only the last of them is repeated
            items = (LostBatches(None), *items)
    else:
        resolved = True
        own = [item for item in damaged.items if not _is_echo(item)]
        if len(own) != len(items):
            return damaged
        items = tuple(
            said if isinstance(item, Unreadable) else item
            for item, said in zip(own, items, strict=True)
        )
    return replace(damaged, items=items, damage=replace(damaged.damage, resolved=resolved))


def _batches(count: int) -> str:
    return "1 batch" if count == 1 else f"{count} batches"


def _is_echo(item: Item) -> bool:
    return isinstance(item, Echo) or (isinstance(item, Unreadable) and item.kind == ECHO)
