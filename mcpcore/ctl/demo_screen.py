"""Drawing an experiment: a scene and a size in, lines of text out.

This module exists so that the whole screen is a function of a value: what is drawn can be tested,
and nothing is drawn that was not measured. Colour only repeats what words and signs say already.
It must never ask a cluster anything.
"""

from __future__ import annotations

from typing import Final

from rich.text import Text

from mcpcore.experiment.pulse import Beat
from mcpcore.experiment.scene import Happening, LinkView, Mood, NodeView, Scene, State

WIDE: Final = 140
"""From so many columns on, what happened stands beside the picture, not below it."""

_LEFT: Final = 78
"""Columns of the picture and of the table of clients."""
_BARS: Final = " ▁▂▃▄▅▆▇█"

_SIGNS: Final = {
    State.LEADER: "★",
    State.FOLLOWER: "●",
    State.CANDIDATE: "?",
    State.CANDIDATE_BEFORE_THE_VOTE: "?",
    State.STARTING: "○",
    State.KILLED: "✗",
}
_STYLES: Final = {
    State.LEADER: "bold green",
    State.FOLLOWER: "",
    State.CANDIDATE: "yellow",
    State.CANDIDATE_BEFORE_THE_VOTE: "yellow",
    State.STARTING: "dim",
    State.KILLED: "bold red",
}
_MOODS: Final = {Mood.PLAIN: "", Mood.HARM: "red", Mood.GOOD: "green"}

SILENT_S: Final = 1.0
"""From so long without an acknowledged write on, a site's clients count as cut off from service."""


def draw(scene: Scene, width: int, height: int) -> Text:
    """The whole screen, exactly as many lines as it needs and at most ``height``.

    Args:
        width: columns; 80 or more look good.
        height: lines; 24 or more show everything.
    """
    picture = [*_network(scene), Text(), *_clients(scene)]
    if width >= WIDE:
        room = height - 3
        chart_rows = max(2, min(10, room - len(picture) - 3))
        rows = max(len(picture), room - chart_rows - 5)
        beside = _events(scene.happenings, width - _LEFT - 6, rows)
        body = [_beside(left, right) for left, right in _padded(picture, beside)]
        body += [Text(), *_chart(scene, width - 4, chart_rows)]
    else:
        body = [*picture, *_chart(scene, width - 4, 1)]
        body += _events(scene.happenings, width - 4, max(3, height - 4 - len(body)))
    lines = [*_head(scene, width), *body][:height]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Text("\n").join(lines)


def plain_line(scene: Scene) -> str:
    """The scene in one line, for a log instead of a screen."""
    nodes = ", ".join(f"{node.name} {_state(node)}" for node in scene.nodes)
    rate = sum(beat.writes_per_s for beat in scene.beats.values())
    return f"{rate:4.0f} writes/s  {scene.acknowledged:5d} acknowledged  {nodes}"


def plain_event(happening: Happening) -> str:
    """An event as a line of a log."""
    return f"{happening.at_s:6.1f} s  {happening.text}"


# --- parts --------------------------------------------------------------------------------------


def _head(scene: Scene, width: int) -> list[Text]:
    began = bool(scene.beats)
    at_s = min(max(scene.at_s, 0.0), scene.total_s) if began else 0.0
    clock = f"{at_s:4.1f} of {scene.total_s:g} s"
    title = Text.assemble(("mcpcore demo", "bold"), "  ", (scene.phase, ""))
    gap = max(2, width - 4 - title.cell_len - len(clock))
    title = Text.assemble("  ", title, " " * gap, (clock, "dim"))
    inside = width - 4
    done = round(inside * at_s / scene.total_s)
    bar = Text.assemble("  ", ("━" * done, "green"), ("─" * (inside - done), "dim"))
    bar = Text.assemble("  ", ("━" * done, "green"), ("─" * (inside - done), "dim"))
    return [title, bar, Text(f"  {scene.windows}", "dim"), Text()]


def _network(scene: Scene) -> list[Text]:
    """The triangle: two sites above, one below, and the links between them."""
    across, left, right = scene.links
    heads = [_node_head(node) for node in scene.nodes]
    facts = [_node_facts(node) for node in scene.nodes]
    second, below = 44, 22
    return [
        _at((2, heads[0]), (second, heads[1])),
        _at((4, facts[0][0]), (28, _across(across, 14)), (second + 2, facts[1][0])),
        _at((4, facts[0][1]), (second + 2, facts[1][1])),
        _at((12, _slope(left, "╲")), (54, _slope(right, "╱"))),
        _at(
            (15, _slope(left, "╲")),
            (18, _label(left)),
            (44, _label(right)),
            (51, _slope(right, "╱")),
        ),
        _at((18, _slope(left, "╲")), (48, _slope(right, "╱"))),
        _at((below, heads[2])),
        _at((below + 2, facts[2][0]), (below + 27, facts[2][1])),
    ]


def _node_head(node: NodeView) -> Text:
    style = "bold red" if node.cut_off else _STYLES[node.state]
    head = Text.assemble((f"{_SIGNS[node.state]} {node.name}", style or "bold"), "  ")
    head.append(_state(node), style)
    return head


def _node_facts(node: NodeView) -> tuple[Text, Text]:
    if not node.term:
        return Text(""), Text("")
    first = Text(f"term {node.term}  commit {node.commit:,}")
    second = Text()
    well = node.verdict in ("", "healthy")
    if not well:
        second.append(f"{node.verdict}, ", "bold red" if node.verdict == "split" else "yellow")
    if node.cut_off and node.last_index > node.commit:
        return first, second.append(f"{node.last_index - node.commit} not committed", "yellow")
    if node.behind:
        second.append(f"{node.behind:,} behind", "yellow" if node.behind > 100 else "dim")
    else:
        second.append("up to date", "dim")
    if node.quarantined and well:  # with a verdict as well it would not fit into 80 columns
        second.append(f", {node.quarantined} in quarantine", "yellow")
    return first, second


def _state(node: NodeView) -> str:
    if node.cut_off:
        return f"cut off, {node.state}" if node.state is not State.KILLED else "killed"
    return str(node.state)


def _across(link: LinkView, width: int) -> Text:
    label = " cut " if link.is_cut else f" {link.one_way_ms:.0f} ms "
    side = (width - len(label)) // 2
    line = "╌" if link.is_cut else "─"
    text = line * side + label + line * (width - side - len(label))
    return Text(text, "red" if link.is_cut else "dim")


def _slope(link: LinkView, sign: str) -> Text:
    return Text("·", "red") if link.is_cut else Text(sign, "dim")


def _label(link: LinkView) -> Text:
    return Text("cut", "red") if link.is_cut else Text(f"{link.one_way_ms:.0f} ms", "dim")


def _clients(scene: Scene) -> list[Text]:
    header = "  clients at  writes/s  reads/s     p50      p99  last acknowledged       open"
    lines = [Text(header, "dim")]
    for node in scene.nodes:
        beat = scene.beats.get(node.name)
        lines.append(Text(f"  {node.name}", "dim") if beat is None else _feel(node.name, beat))
    return lines


def _feel(site: str, beat: Beat) -> Text:
    p50 = "-" if beat.p50_ms is None else f"{beat.p50_ms:,.0f} ms"
    p99 = "-" if beat.p99_ms is None else f"{beat.p99_ms:,.0f} ms"
    silent = beat.silent_s >= SILENT_S
    last = f"unavailable for {beat.silent_s:.1f} s" if silent else "just now"
    line = Text(f"  {site:<12}{beat.writes_per_s:>8.0f}{beat.reads_per_s:>9.0f}{p50:>9}{p99:>9}  ")
    line.append(f"{last:<22}", "bold red" if silent else "green")
    line.append(f"{beat.waiting:>6}")
    return line


def _chart(scene: Scene, width: int, rows: int) -> list[Text]:
    """Writes per second over time, faults marked below."""
    label = "writes/s "
    room = width - len(label)
    values = _resample(scene.bars, scene.slot_s, scene.total_s, room)
    top = max([*values, 1.0])
    lines = []
    for row in reversed(range(rows)):
        cells = [
            _BARS[max(0, min(8, round((value / top * rows - row) * 8)))] if value else " "
            for value in values
        ]
        if row == 0:
            cells = [
                "▁" if value and cell == " " else cell
                for value, cell in zip(values, cells, strict=True)
            ]
        head = f"{top:>7.0f}  " if row == rows - 1 and rows > 1 else " " * len(label)
        if row == 0:
            head = label
        lines.append(Text.assemble("  ", (head, "dim"), ("".join(cells), "cyan")))
    lines.append(Text.assemble("  " + " " * len(label), (_marks(scene, room), "red")))
    return lines


def _resample(bars: tuple[float, ...], slot_s: float, total_s: float, room: int) -> list[float]:
    """One value for each of ``room`` columns that are over."""
    column_s = total_s / room
    values = []
    for column in range(min(room, int(len(bars) * slot_s / column_s))):
        first = int(column * column_s / slot_s)
        last = max(first + 1, int((column + 1) * column_s / slot_s))
        chosen = bars[first:last]
        values.append(sum(chosen) / len(chosen) if chosen else 0.0)
    return values


def _marks(scene: Scene, room: int) -> str:
    line = [" "] * room
    for mark in scene.marks:
        column = int(mark.at_s / scene.total_s * room)
        for offset, sign in enumerate("╵" + mark.text):
            if column + offset < room:
                line[column + offset] = sign
    return "".join(line).rstrip()


def _events(happenings: tuple[Happening, ...], width: int, rows: int) -> list[Text]:
    lines = []
    for happening in happenings[-rows:]:
        line = Text.assemble("  ", (f"{happening.at_s:5.1f}  ", "dim"))
        line.append(happening.text, _MOODS[happening.mood])
        line.truncate(width + 2, overflow="ellipsis")
        lines.append(line)
    return lines


# --- tools --------------------------------------------------------------------------------------


def _at(*parts: tuple[int, Text]) -> Text:
    """Parts at their columns, in one line."""
    line = Text()
    for column, part in parts:
        line.append(" " * max(1 if line else 0, column - line.cell_len))
        line.append_text(part)
    return line


def _beside(left: Text, right: Text) -> Text:
    line = Text().append_text(left)
    line.append(" " * max(2, _LEFT + 4 - line.cell_len))
    return line.append_text(right)


def _padded(left: list[Text], right: list[Text]) -> list[tuple[Text, Text]]:
    rows = max(len(left), len(right))
    left = left + [Text()] * (rows - len(left))
    right = right + [Text()] * (rows - len(right))
    return list(zip(left, right, strict=True))
