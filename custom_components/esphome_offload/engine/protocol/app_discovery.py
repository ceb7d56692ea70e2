"""What the Home Assistant app hands to Supervisor, and Supervisor to the Home Assistant on its machine."""

from dataclasses import dataclass, field
from typing import Annotated

from ..codec import Number, Text
from .fields import Digest


@dataclass(frozen=True, slots=True)
class AppDiscovery:
    """The address and pin of the builder in the app.

    ``secret`` pairs once without a code; None while the app has nobody to pair with.
    """

    host: Annotated[str, Text(253, r"[A-Za-z0-9.-]+")]
    port: Annotated[int, Number(1, 65535)]
    pin_sha256: Digest
    secret: Annotated[str, Text(128, r"[A-Za-z0-9_-]{32,}")] | None = field(
        default=None, repr=False
    )

    @property
    def url(self) -> str:
        """The base URL of the builder, which has no https."""
        return f"http://{self.host}:{self.port}"
