"""DeviceAccess: how a device is reached and flashed, as its configuration says."""

from dataclasses import dataclass
from typing import Annotated, Final

from .codec import Many, Number, Text

_UPLOADS: Final = frozenset({"esphome", "web_server", "zephyr_mcumgr"})
"""The platforms of ``ota:`` that ``esphome upload`` uses; the last one over Bluetooth."""


@dataclass(frozen=True, slots=True)
class OtaPlatform:
    """One platform of ``ota:`` and the port that the device listens on; None: it has none."""

    platform: Annotated[str, Text(64)]
    port: Annotated[int, Number(1, 65535)] | None = None


@dataclass(frozen=True, slots=True)
class DeviceAccess:
    """What a configuration says about access to its device; None for what is not known.

    ``ota`` are the platforms of ``ota:``, none when it is an empty tuple. ``address`` is where
    ESPHome looks for the device; with ``address_given`` the configuration names it
    (``use_address``, a static IP), else it comes from the node name. ``api``: whether the device
    has the native API. ``good_after`` are the seconds after which new firmware counts as good;
    until then the boot loader goes back to the old one. 0: it never goes back.
    """

    ota: Annotated[tuple[OtaPlatform, ...], Many(16)] | None = None
    address: Annotated[str, Text(255)] | None = None
    address_given: bool = False
    api: bool | None = None
    good_after: Annotated[float, Number(0, 2**32)] | None = None

    @property
    def without_ota(self) -> bool:
        """Whether the device cannot be flashed over the air, as far as is known."""
        return self.ota is not None and _UPLOADS.isdisjoint(each.platform for each in self.ota)
