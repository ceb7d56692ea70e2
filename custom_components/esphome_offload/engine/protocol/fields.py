"""Types of the fields of messages, with their limits."""

from typing import Annotated

from ..codec import Number, Text
from .limits import LABEL_LIMIT, QUEUE_LIMIT, VERSION_LIMIT

EXIT_CODE_LIMIT = 1024
_MOST = 2**53

# No slash, no leading dot or dash: these name files at the builder and stand on command lines.
_CONFIGURATION_PATTERN = r"[^-./\\][^/\\]*\.ya?ml"
_NAME_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
# What a release, an alpha, a beta or a candidate is called, and nothing that `uv` reads otherwise.
_ESPHOME_VERSION_PATTERN = r"[0-9]+(\.[0-9]+){1,3}((a|b|rc|\.dev)[0-9]+)?"
_TIME_ZONE_PATTERN = r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}"

HexId = Annotated[str, Text(32, r"[0-9a-f]{32}")]
AttemptId = HexId
Digest = Annotated[str, Text(64, r"[0-9a-f]{64}")]
Label = Annotated[str, Text(LABEL_LIMIT, r".*\S.*")]
Version = Annotated[str, Text(VERSION_LIMIT)]
EsphomeVersion = Annotated[str, Text(VERSION_LIMIT, _ESPHOME_VERSION_PATTERN)]
Configuration = Annotated[str, Text(200, _CONFIGURATION_PATTERN)]
DeviceName = Annotated[str, Text(128, _NAME_PATTERN)]
Queue = Annotated[int, Number(0, QUEUE_LIMIT)]
"""Slots, or builds that run or wait: what is expected of each is computed."""
Count = Annotated[int, Number(0, _MOST)]
ExitCode = Annotated[int, Number(-EXIT_CODE_LIMIT, EXIT_CODE_LIMIT)]
TimeZone = Annotated[str, Text(64, _TIME_ZONE_PATTERN)]
