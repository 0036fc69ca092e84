"""Log records as lines of JSON, for whoever lets a machine read them.

This module exists so that the facts of a line (``group``, ``term``, ``peer``...), which the code
hands over beside its text, are found by name and never by taking sentences apart. It needs nothing
but the standard library.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Final

_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has."""
_RESERVED: Final = ("time", "level", "logger", "message", "error")


class JsonLines(logging.Formatter):
    """One JSON object on one line for each record.

    ``time`` (UTC, RFC 3339), ``level``, ``logger``, ``message``, then the facts that were handed
    over as ``extra``, then ``error`` with the traceback if there is one. A fact that has the name
    of one of these five gets an underscore behind it; a value that JSON does not know becomes text.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        at = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, object] = {
            "time": at.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in vars(record).items():
            if name not in _OWN:
                line[name + "_" if name in _RESERVED else name] = value
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        try:
            return json.dumps(line, ensure_ascii=False, default=str, allow_nan=False)
        except (
            TypeError,
            ValueError,
        ):  # a fact with keys that are no text, or with no number in it
            return json.dumps({name: str(value) for name, value in line.items()})
