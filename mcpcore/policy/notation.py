"""YAML, TOML and JSON: text to plain data, and back.

This module exists so that hostile text ends here: one error names the place, aliases cannot blow
up, and no key is silently lost because it was written twice. It must never know what the data
means.

YAML needs the extra ``mcpcore[policy]`` (PyYAML); TOML and JSON need nothing.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from mcpcore.errors import InvalidInput

TEXT_LENGTH_MAX: Final = 16 * 1024 * 1024
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
NOTATIONS: Final = ("yaml", "toml", "json")


def notation_of(name: str) -> str:
    """The notation that a file's name tells: yaml, toml or json.

    Raises:
        InvalidInput: none of them.
    """
    ending = name.rpartition(".")[2].lower()
    ending = {"yml": "yaml"}.get(ending, ending)
    if ending not in NOTATIONS:
        raise InvalidInput(
            "this ending is of no notation known here", where=name, remedy=f"Use {NOTATIONS}"
        )
    return ending


def load_all(text: str, notation: str, where: str = "text") -> list[Any]:
    """Read every document of a text. YAML may hold several, the others hold one.

    Raises:
        InvalidInput: the text is not in that notation; with line and column.
    """
    if len(text) > TEXT_LENGTH_MAX:
        raise InvalidInput(f"longer than {TEXT_LENGTH_MAX} characters", where=where)
    try:
        if notation == "toml":
            return [tomllib.loads(text)]
        if notation == "json":
            return [json.loads(text, object_pairs_hook=_once)]
    except InvalidInput as error:
        raise InvalidInput(error.what, where=where) from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"no {notation.upper()}: {error}", where=where) from error
    return _load_yaml(text, where)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise InvalidInput(f"{twice!r} stands twice in one table")
    return table


def _yaml() -> Any:
    try:
        return import_module("yaml")
    except ImportError:
        raise InvalidInput(
            "reading and writing YAML needs PyYAML",
            remedy="pip install 'mcpcore[policy]', or use TOML or JSON",
        ) from None


def _load_yaml(text: str, where: str) -> list[Any]:
    yaml: Any = _yaml()
    safe: Any = yaml.SafeLoader

    class Loader(safe):  # type: ignore[misc]
        """Plain data only; no key twice; no aliases, which can make a small text enormous."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                mark = self.peek_event().start_mark
                raise InvalidInput(
                    "aliases are not read here", where=f"{where}, line {mark.line + 1}",
                    remedy="Write it out",
                )  # fmt: skip
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: set[object] = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if not isinstance(key, str):
                    raise InvalidInput(
                        f"the key {key!r} is no text",
                        where=f"{where}, line {key_node.start_mark.line + 1}",
                        remedy="Put it in quotes",
                    )
                if key in seen:
                    raise InvalidInput(
                        f"{key!r} stands twice in one table",
                        where=f"{where}, line {key_node.start_mark.line + 1}",
                    )
                seen.add(key)
            return super().construct_mapping(node, deep)

    try:
        return [each for each in yaml.load_all(text, Loader) if each is not None]
    except yaml.YAMLError as error:
        told = " ".join(str(error).split())
        raise InvalidInput(f"no YAML: {told}", where=where) from error
    except (RecursionError, ValueError) as error:
        raise InvalidInput(f"no YAML: {error}", where=where) from error


def dump(data: Mapping[str, Any], notation: str) -> str:
    """Write one document. Reading it gives equal data back.

    Raises:
        InvalidInput: a notation that does not exist, or data that it cannot hold.
    """
    if notation == "yaml":
        text: str = _yaml().safe_dump(
            data, sort_keys=False, allow_unicode=True, default_flow_style=None, width=96
        )
        return text
    if notation == "json":
        return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    if notation == "toml":
        return "\n".join(_toml_table(data, ())).strip("\n") + "\n"
    raise InvalidInput(f"there is no notation {notation!r}", remedy=f"Use {', '.join(NOTATIONS)}")


def dump_all(documents: list[Any], notation: str) -> str:
    """Write several documents: YAML parts them, JSON makes a list.

    Raises:
        InvalidInput: several documents in TOML.
    """
    if len(documents) == 1 and isinstance(documents[0], Mapping):
        return dump(documents[0], notation)
    if notation == "json":
        return json.dumps(documents, indent=2, ensure_ascii=False) + "\n"
    if notation == "yaml":
        return "---\n".join(dump(each, "yaml") for each in documents)
    raise InvalidInput("TOML holds one document to a file", remedy="Use YAML or JSON")


def _toml_table(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    lines, later = [], []
    for key, value in table.items():
        if isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
            later.append((key, value))
        else:
            lines.append(f"{_toml_key(key)} = {_toml_value(value)}")
    for key, rows in later:
        here = (*path, key)
        for row in rows:
            lines += ["", f"[[{'.'.join(_toml_key(each) for each in here)}]]"]
            lines += [f"{_toml_key(k)} = {_toml_value(v)}" for k, v in row.items()]
    return lines


def _toml_key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _toml_text(key)


def _toml_text(text: str) -> str:
    # JSON's escapes are TOML's, but for DEL, which TOML does not take bare.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _toml_text(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml_value(item) for item in value)}]"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_toml_key(k)} = {_toml_value(v)}" for k, v in value.items())
        return f"{{{' ' + inner + ' ' if inner else ''}}}"
    raise InvalidInput(f"TOML cannot hold {value!r}", where="document")
