"""The names users may rely on, in one file that a reviewer reads: ``public_names.txt``.

After a change that is meant: ``python -m tests.house.test_public_names``.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import mcpcore

GOLDEN = Path(__file__).with_name("public_names.txt")


def public_names() -> dict[str, object]:
    """Everything that a package of ours lists in ``__all__``, by full name."""
    packages = ["mcpcore"] + [
        module.name
        for module in pkgutil.walk_packages(mcpcore.__path__, "mcpcore.")
        if module.ispkg and not module.name.startswith("mcpcore.ctl")
    ]
    names: dict[str, object] = {}
    for package in packages:
        module = importlib.import_module(package)
        for name in getattr(module, "__all__", ()):
            names[f"{package}.{name}"] = getattr(module, name)
    return names


def listing() -> str:
    """One name and its signature a line."""
    lines = []
    for name, value in sorted(public_names().items()):
        kind = "class" if inspect.isclass(value) else "def" if callable(value) else "value"
        lines.append(f"{kind} {name}")
    return "\n".join(lines) + "\n"


def test_public_names_change_only_on_purpose() -> None:
    assert listing() == GOLDEN.read_text(), (
        "public names changed: read the difference, then python -m tests.house.test_public_names"
    )


@pytest.mark.parametrize("name", sorted(public_names()))
def test_every_public_name_has_a_docstring(name: str) -> None:
    value = public_names()[name]
    if inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value), f"{name} has no docstring"
    if inspect.isclass(value):
        for attribute, member in vars(value).items():
            if inspect.isfunction(member) and not attribute.startswith("_"):
                assert inspect.getdoc(member), f"{name}.{attribute} has no docstring"


if __name__ == "__main__":
    GOLDEN.write_text(listing())
