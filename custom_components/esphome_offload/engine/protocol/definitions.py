"""For modules that still import from here."""

from ..const import MIB as MIB
from .errors import (
    ErrorCode as ErrorCode,
    ProtocolError as ProtocolError,
    said_of_other as said_of_other,
    update_sentence as update_sentence,
)
from .limits import *  # noqa: F403
from .spake import Role as Role
