"""The numbers that both ends of a link must agree on."""

from typing import Final

from ..const import MIB

PROTOCOL: Final = 1
OLDEST_PROTOCOL: Final = 1

# Texts, in characters.
LABEL_LIMIT: Final = 128
DETAIL_LIMIT: Final = 256
VERSION_LIMIT: Final = 64
LINE_LIMIT: Final = 4000

# Counts.
CAPABILITIES_LIMIT: Final = 32
LINES_PER_BATCH: Final = 500
WANTED_LIMIT: Final = 500
VERSIONS_LIMIT: Final = 64
WARM_LIMIT: Final = 500
IMAGES_LIMIT: Final = 8
QUEUE_LIMIT: Final = 1000

# Bytes.
MESSAGE_LIMIT: Final = 512 * 1024
"""One JSON message: as long as it takes to decode it, nothing else runs."""
BUNDLE_LIMIT: Final = 128 * MIB
FIRMWARE_LIMIT: Final = 256 * MIB

BATCH_CHARACTERS: Final = 64 * 1024
"""Lines of one message together; JSON may need six bytes for a character."""

# Seconds.
PAIRING_WINDOW: Final = 300
PAIRING_EXCHANGE_TIMEOUT: Final = 15
HANDSHAKE_TIMEOUT: Final = 10
STALL_TIMEOUT: Final = 60
"""A board that swaps may be silent for a while; a dead connection must still end."""
KEEP_TIMEOUT: Final = 300
"""From the last piece of a bundle to the result; a slow SD card may have to write all of it first."""

PAIRING_TRIES: Final = 3
CODE_DIGITS: Final = 8
