"""What the commands that ask a cluster have in common: its options, and how answers are shown.

This module exists so that every such command finds the cluster in the same way. It is loaded for
`--help`, so it must never import what talks to a cluster; ``mcpcore.ctl.profile`` makes use of
what was given here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import wraps
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar, get_type_hints

import typer

P = ParamSpec("P")
R = TypeVar("R")

_PANEL = "Which cluster, and as whom"


class Output(StrEnum):
    """How answers are shown."""

    PLAIN = "plain"
    """For pipes: the bare bytes, or one line for each record."""
    TABLE = "table"
    """For people."""
    JSON = "json"
    """For programs: one object to a line."""


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to show the answer.")]


def _option(*names: str, metavar: str, help: str, variable: str | None = None) -> Any:
    return typer.Option(
        *names, metavar=metavar, help=help, envvar=variable, show_default=False,
        rich_help_panel=_PANEL,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """Which cluster is meant, and who asks, as given on the command line. Empty: not given."""

    config: Annotated[
        str,
        _option("--config", "-c", metavar="CLIENT.TOML", help="A client profile: all of the below.",
                variable="MCPCTL_CONFIG"),
    ] = ""  # fmt: skip
    endpoints: Annotated[
        str,
        _option("--endpoints", "-e", metavar="HOST:PORT,...", help="Nodes to ask.",
                variable="MCPCTL_ENDPOINTS"),
    ] = ""  # fmt: skip
    certs: Annotated[
        str,
        _option("--certs", metavar="DIR", help="What `mcpctl certs init` made.",
                variable="MCPCTL_CERTS"),
    ] = ""  # fmt: skip
    user: Annotated[
        str,
        _option("--as", metavar="NAME", help="Whose certificate in --certs, if there are several."),
    ] = ""  # fmt: skip
    cluster: Annotated[
        str,
        _option("--cluster", metavar="NAME", help="The cluster; with TLS the certificate says it."),
    ] = ""  # fmt: skip
    ca: Annotated[
        str, _option("--ca", metavar="FILE", help="The authority's certificate.")
    ] = ""  # fmt: skip
    cert: Annotated[str, _option("--cert", metavar="FILE", help="Our certificate.")] = ""
    key: Annotated[str, _option("--key", metavar="FILE", help="Our private key.")] = ""
    plaintext: Annotated[
        bool,
        typer.Option("--plaintext", help="No TLS: for loopback only.", rich_help_panel=_PANEL),
    ] = False
    timeout_s: Annotated[
        float,
        typer.Option("--timeout", metavar="SECONDS", help="How long to try.", min=0.1,
                     rich_help_panel=_PANEL),
    ] = 10.0  # fmt: skip


def on_cluster(
    command: Callable[Concatenate[ClusterOptions, P], R],
) -> Callable[P, R]:
    """Give a command the options of a cluster; it receives them as its first argument."""
    hints = get_type_hints(command, include_extras=True)
    own = list(inspect.signature(command).parameters.values())[1:]
    parameters = [parameter.replace(annotation=hints[parameter.name]) for parameter in own]
    shared_hints = get_type_hints(ClusterOptions, include_extras=True)
    for field in fields(ClusterOptions):
        parameters.append(
            inspect.Parameter(
                _renamed(field.name),
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=shared_hints[field.name],
            )
        )

    @wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        given: dict[str, Any] = {
            field.name: kwargs.pop(_renamed(field.name)) for field in fields(ClusterOptions)
        }
        options = ClusterOptions(**given)
        return command(options, *args, **kwargs)

    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def _renamed(name: str) -> str:
    """A name that no command's own parameter has: `put` has a KEY, and TLS has a --key."""
    return f"cluster_{name}"
