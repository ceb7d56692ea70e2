"""The identity and introduction of this instance, for builders."""

from homeassistant.core import HomeAssistant
from homeassistant.loader import async_get_integration

from ..const import DOMAIN
from ..engine.client.dial import Caller
from ..engine.protocol.hello import Introduction
from ..engine.protocol.negotiation import own_offer
from ..stores.identity import async_get_identity, instance_label


async def async_get_caller(hass: HomeAssistant) -> Caller:
    """Return this instance; raises IdentityError."""
    integration = await async_get_integration(hass, DOMAIN)
    introduction = Introduction(own_offer(str(integration.version)), instance_label(hass))
    return Caller(await async_get_identity(hass), introduction)
