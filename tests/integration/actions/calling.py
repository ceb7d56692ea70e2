"""Call an action as a person does."""

from typing import Any

from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import entity_registry as er
import pytest

from custom_components.esphome_offload.const import DOMAIN

MAC = "aa:bb:cc:dd:ee:ff"
LAMP_ENTITY = "update.office_desk_lamp_esphome"
PLUG_ENTITY = "update.desk_plug_esphome"
FOREIGN_ENTITY = "light.desk_lamp"

type Response = dict[str, Any]


async def call(
    hass: HomeAssistant, action: str, *, context: Context | None = None, **data: Any
) -> Response:
    response = await hass.services.async_call(
        DOMAIN, action, data, blocking=True, return_response=True, context=context
    )
    assert response is not None
    return response


async def refused(hass: HomeAssistant, action: str, **data: Any) -> ServiceValidationError:
    """Call an action that is to be refused; the reason is translated, with nothing left open."""
    with pytest.raises(ServiceValidationError) as raised:
        await call(hass, action, **data)
    assert raised.value.translation_domain == DOMAIN
    assert str(raised.value) != raised.value.translation_key
    assert "{" not in str(raised.value)
    return raised.value


def configurations(response: Response) -> list[str]:
    return [job["configuration"] for job in response["jobs"]]


def own_device(hass: HomeAssistant, entity_id: str) -> str:
    entity = er.async_get(hass).async_get(entity_id)
    assert entity is not None
    assert entity.device_id is not None
    return entity.device_id
