"""From one picture to the next: only what changed.

This module exists so that a thousand groups at two pictures a second cost a browser next to
nothing: a group that stands still is sent once. Pure.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mcpcore.observe.picture import GroupPicture, Picture


def whole(picture: Picture) -> dict[str, Any]:
    """What a browser that has just come needs."""
    return {**_around(picture), "whole": True, "groups": [row(each) for each in picture.groups]}


def difference(before: Picture, after: Picture) -> dict[str, Any]:
    """What a browser that shows ``before`` needs to show ``after``."""
    old = {group.name: group for group in before.groups}
    new = {group.name: group for group in after.groups}
    return {
        **_around(after),
        "whole": False,
        "groups": [row(group) for name, group in new.items() if old.get(name) != group],
        "gone": [name for name in old if name not in new],
    }


def row(group: GroupPicture) -> list[Any]:
    """A group as the page's script takes it apart."""
    return [
        group.name,
        list(group.leaders),
        group.term,
        group.commit,
        group.lag,
        group.behind,
        group.verdict,
        dict(group.by),
        group.asleep,
        list(group.members),
    ]


def _around(picture: Picture) -> dict[str, Any]:
    return {
        "cluster": picture.cluster,
        "level": picture.level,
        "headline": picture.headline,
        "nodes": [asdict(node) for node in picture.nodes],
        "links": [asdict(link) for link in picture.links],
        "advice": [asdict(each) for each in picture.advice],
        "count": len(picture.groups),
    }
