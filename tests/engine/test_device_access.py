"""What a configuration says of access to its device."""

import pytest

from custom_components.esphome_offload.engine.codec import CodecError, decode, encode
from custom_components.esphome_offload.engine.device_access import DeviceAccess, OtaPlatform

NATIVE = OtaPlatform("esphome", 3232)
WEB = OtaPlatform("web_server", 80)


@pytest.mark.parametrize(
    ("ota", "without"),
    [
        (None, False),
        ((), True),
        ((NATIVE,), False),
        ((OtaPlatform("http_request"),), True),
        ((OtaPlatform("zephyr_mcumgr"),), False),
    ],
)
def test_whether_it_can_be_flashed_over_the_air(
    ota: tuple[OtaPlatform, ...] | None, without: bool
) -> None:
    assert DeviceAccess(ota=ota).without_ota is without


def test_it_is_stored_and_bounded() -> None:
    known = DeviceAccess(
        (WEB, NATIVE), "192.168.1.9", address_given=True, api=True, good_after=60.0
    )
    assert decode(DeviceAccess, encode(known)) == known
    with pytest.raises(CodecError):
        decode(DeviceAccess, {"ota": [{"platform": "esphome", "port": 99999}]})
