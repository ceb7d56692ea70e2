"""Config flow: the builder in the app on this machine, for which Supervisor vouches."""

from typing import Any, Final, override

from homeassistant.config_entries import SOURCE_ZEROCONF, ConfigFlow, ConfigFlowResult
from homeassistant.core import callback
from homeassistant.helpers.service_info.hassio import HassioServiceInfo

from ..const import DOMAIN
from ..engine.codec import CodecError, decode
from ..engine.protocol.app_discovery import AppDiscovery
from ..engine.protocol.errors import ErrorCode
from ..engine.protocol.hello import Purpose
from ..engine.protocol.pairing import PairingError
from .discovery import DiscoverySteps
from .pairing import UNREACHED, Found

_SECRET_OVER: Final = (ErrorCode.WINDOW_CLOSED, ErrorCode.WRONG_CODE, ErrorCode.UNKNOWN_GUEST)
"""What a builder says to a secret that was used, or is too old."""


class AppSteps(DiscoverySteps):
    """The step from what Supervisor says of the app to pairing, without a code.

    ``app`` has the secret that replaces the code, and the pin that has to answer to it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.app: AppDiscovery | None = None

    @override
    async def async_step_hassio(self, discovery_info: HassioServiceInfo) -> ConfigFlowResult:
        """Handle the app on this machine, at its start and when it has a new secret."""
        try:
            self.app = app = decode(AppDiscovery, discovery_info.config)
        except CodecError:
            return self.async_abort(reason="malformed")
        await self._async_discovered(
            discovery_info,
            app.pin_sha256,
            discovery_info.name,
            (app.url,),
            raise_on_progress=False,
        )
        self._async_end_announced()
        if self.hass.config_entries.flow.async_has_matching_flow(self):
            return self.async_abort(reason="already_in_progress")
        return await self.async_step_hassio_confirm()

    @override
    def is_matching(self, other_flow: ConfigFlow) -> bool:
        """Return whether this app is offered already; what is new of it is taken over there."""
        if not isinstance(other_flow, AppSteps) or other_flow.unique_id != self.unique_id:
            return False
        if other_flow.app is None:
            return False
        other_flow.app, other_flow.announced = self.app, self.announced
        other_flow.discovery = self.discovery
        return True

    async def async_step_hassio_confirm(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Ask whether to pair with the app."""
        assert self.app is not None  # noqa: S101 - it was discovered
        errors: dict[str, str] = {}
        if user_input is not None:
            if self._instance is None:
                return await self.async_step_instance()
            errors = await self._async_find(self.announced, verify_ssl=True)
            if not errors and (found := self._found) is not None:
                if found.pin_sha256 == self.app.pin_sha256:
                    return await self._async_pair_app(found, self.app)
                return self._app_form("not_the_app")
        # There is no field that an error could belong to.
        return self._app_form(next(iter(errors.values()), None))

    def _app_form(self, error: str | None) -> ConfigFlowResult:
        return self.async_show_form(
            step_id="hassio_confirm",
            errors={} if error is None else {"base": error},
            description_placeholders={
                "url": self.announced[0],
                "app": self.context["title_placeholders"]["name"],
                **self._placeholders,
            },
        )

    async def _async_pair_app(self, found: Found, app: AppDiscovery) -> ConfigFlowResult:
        # Its page shows a code, with which it can be paired without the secret.
        if app.secret is None:
            return self._code_form(found, None, {"base": "secret_over"})
        try:
            return await self._async_pair(found, app.secret, purpose=Purpose.PAIR_BY_SECRET)
        except PairingError as err:
            if err.code in _SECRET_OVER:
                return self._code_form(found, None, {"base": "secret_over"})
            return self._app_form(self._pairing_error(err))
        except UNREACHED as err:
            return self._app_form(self._unreached_error(err, found.url))

    @callback
    def _async_end_announced(self) -> None:
        """End the flow of the app's announcement in the network, which would ask for a code."""
        match = {"source": SOURCE_ZEROCONF, "unique_id": self.unique_id}
        for flow in self.hass.config_entries.flow.async_progress_by_handler(
            DOMAIN, match_context=match
        ):
            # Not that of somebody who is about to enter the code.
            if flow.get("step_id") == "zeroconf_confirm":
                self.hass.config_entries.flow.async_abort(flow["flow_id"])
