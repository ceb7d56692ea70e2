"""The log on standard output: one line for each event."""

import logging
import sys
from typing import override


class OneLine(logging.Formatter):
    """Puts a record on one line, its traceback included."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        return " | ".join(super().format(record).splitlines())


def log_to_stdout(*, verbose: bool) -> None:
    """Log what this program does, and only warnings of the packages that it uses."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    level = logging.DEBUG if verbose else logging.INFO
    logging.getLogger(__package__).setLevel(level)
