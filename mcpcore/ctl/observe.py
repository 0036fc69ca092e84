"""`mcpctl observe`: what monitoring systems want to be given, on stdout.

This module exists so that alert rules and dashboards come out of the installed package, in the
version that fits its metrics.
"""

from __future__ import annotations

import typer

app = typer.Typer(help="Print alert rules for Prometheus and a dashboard for Grafana.")


@app.callback()
def _observe() -> None:
    """Print alert rules for Prometheus and a dashboard for Grafana."""


@app.command()
def rules() -> None:
    """Print alert rules for Prometheus.

    Example: mcpctl observe rules > /etc/prometheus/mcpcore.yml
    """
    from importlib.resources import files

    text = files("mcpcore.observe").joinpath("assets", "alerts.yml").read_text()
    typer.echo(text, nl=False)


@app.command()
def dashboard() -> None:
    """Print a dashboard for Grafana.

    Example: mcpctl observe dashboard > mcpcore.json
    """
    import json

    from mcpcore.observe.grafana import dashboard as made

    typer.echo(json.dumps(made(), indent=2))
