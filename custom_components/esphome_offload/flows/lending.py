"""Options flow, the builder's part: lending this machine, and pairing."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

from homeassistant.config_entries import ConfigFlowResult, OptionsFlow
from homeassistant.helpers.selector import BooleanSelector
from homeassistant.util import dt as dt_util
import probatio

from ..const import DOMAIN
from ..coordinator import DATA_COORDINATOR
from ..engine.build.process.machine_containment import ContainmentHere, Degree
from ..engine.host.lending import Lending
from ..engine.host.pairing_window import WindowEnd
from ..engine.protocol.limits import PAIRING_WINDOW
from ..engine.text import without_markup
from ..lending.lender import Lender
from ..options import (
    EntryKey,
    OffloadOptions,
)
from ..stores.identity import instance_label
from ..texts.reasons import reason_text
from .fields import whole_number

# Seconds between two updates of the time that is left.
_TICK: Final = 2.0

# Seconds until accepting builds is switched on, which loads the guests from the disk.
_SWITCH_TIMEOUT: Final = 10.0

_ENDS: Final = {
    WindowEnd.PAIRED: "paired",
    WindowEnd.EXPIRED: "window_expired",
    WindowEnd.WRONG_CODES: "wrong_codes",
}


class LendingSteps(OptionsFlow):
    """The steps about guests."""

    _watch: asyncio.Task[None] | None = None

    @property
    def lender(self) -> Lender | None:
        """The builder's role of this instance; None while the integration is not loaded."""
        coordinator = self.hass.data.get(DATA_COORDINATOR)
        return None if coordinator is None else coordinator.lender

    @property
    def current(self) -> OffloadOptions:
        """The options as they are stored."""
        return OffloadOptions.from_entry(self.config_entry.data, self.config_entry.options)

    def guest_steps(self) -> list[str]:
        """Return the steps that make sense now."""
        if self.lender is None:
            return []
        return ["lending", "pairing"] if self.lender.lending is Lending.ON else ["lending"]

    async def async_step_lending(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Ask whether to lend this machine, and how much of it."""
        if (lender := self.lender) is None:
            return self.async_abort(reason="not_loaded")
        errors: dict[str, str] = {}
        if user_input is not None:
            errors = _errors(lender, user_input)
            if not errors:
                options = {**self.config_entry.options, **user_input}
                if not user_input[EntryKey.ACCEPT_BUILDS] or self.current.accept_builds:
                    return self.async_create_entry(data=options)
                # Nothing is built for anybody before the first pairing: its code comes at once.
                self.hass.config_entries.async_update_entry(self.config_entry, options=options)
                await _accepting(lender)
                return await self.async_step_pairing()
        current = self.current
        shown = user_input or {
            EntryKey.ACCEPT_BUILDS: current.accept_builds,
            EntryKey.PARALLEL_BUILDS: current.parallel_builds,
            EntryKey.LEND_DISK_GIB: current.lend_disk_gib,
            EntryKey.RUN_UNCONTAINED: current.run_uncontained,
        }
        return self.async_show_form(
            step_id="lending",
            data_schema=self.add_suggested_values_to_schema(
                lending_schema(lender.containment), shown
            ),
            errors=errors,
            description_placeholders={
                "containment": self._containment(lender.containment),
                "reason": self._why_cannot_build(lender),
            },
        )

    async def async_step_pairing(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Open the pairing window and show its code until it is closed."""
        lender = self.lender
        if self._watch is not None and self._watch.done():
            return self.async_show_progress_done(next_step_id="pairing_over")
        if lender is None or lender.lending is not Lending.ON:
            return self.async_abort(reason="not_loaded")
        window = lender.pairing.state or lender.open_window()
        if self._watch is None:
            self._watch = self.hass.async_create_background_task(
                self._async_watch(lender, window.code), f"{DOMAIN} pairing dialog"
            )
        until = dt_util.now() + timedelta(seconds=window.seconds_left)
        return self.async_show_progress(
            step_id="pairing",
            progress_action="pairing",
            description_placeholders={
                "code": f"{window.code[:4]} {window.code[4:]}",
                "label": instance_label(self.hass),
                "until": until.strftime("%H:%M:%S"),
            },
            progress_task=self._watch,
        )

    async def async_step_pairing_over(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Show how the window ended; one that was opened meanwhile is shown instead."""
        self._watch = None
        if (lender := self.lender) is None:
            return self.async_abort(reason="not_loaded")
        if lender.pairing.state is not None:
            return await self.async_step_pairing()
        end = lender.pairing.end
        return self.async_abort(
            reason="window_closed" if end is None else _ENDS.get(end, "window_closed"),
            description_placeholders={"label": without_markup(lender.server.newest_guest or "")},
        )

    async def _async_watch(self, lender: Lender, code: str) -> None:
        """Return when the window with this code is not open any more."""
        changed = asyncio.Event()
        unsubscribe = lender.changed.subscribe(changed.set)
        try:
            while (window := lender.pairing.state) is not None and window.code == code:
                self.async_update_progress(1 - window.seconds_left / PAIRING_WINDOW)
                changed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_TICK):
                        await changed.wait()
        finally:
            unsubscribe()

    def _containment(self, here: ContainmentHere) -> str:
        """Return how far a guest's build is contained on this machine."""
        text = f"{reason_text(self.hass, here.reason)}."
        return f"**{text}**" if here.degree is Degree.UNCONTAINED else text

    def _why_cannot_build(self, lender: Lender) -> str:
        reason = lender.why_cannot_build
        return "" if reason is None else reason_text(self.hass, reason)


async def _accepting(lender: Lender) -> None:
    """Return when changed options are applied, or that takes too long."""
    changed = asyncio.Event()
    unsubscribe = lender.changed.subscribe(changed.set)
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(_SWITCH_TIMEOUT):
                while lender.lending is not Lending.ON:
                    changed.clear()
                    await changed.wait()
    finally:
        unsubscribe()


def lending_schema(containment: ContainmentHere) -> probatio.Schema:
    """Return the form; it asks about uncontained builds only where there is no other way."""
    fields: dict[probatio.Marker, object] = {
        probatio.Required(EntryKey.ACCEPT_BUILDS): BooleanSelector(),
        probatio.Required(EntryKey.PARALLEL_BUILDS): whole_number(EntryKey.PARALLEL_BUILDS),
        probatio.Required(EntryKey.LEND_DISK_GIB): whole_number(EntryKey.LEND_DISK_GIB),
    }
    if containment.degree is Degree.UNCONTAINED:
        fields[probatio.Required(EntryKey.RUN_UNCONTAINED)] = BooleanSelector()
    return probatio.Schema(fields)


def _errors(lender: Lender, user_input: dict[str, Any]) -> dict[str, str]:
    if not user_input[EntryKey.ACCEPT_BUILDS]:
        return {}
    if lender.why_cannot_build is not None:
        return {EntryKey.ACCEPT_BUILDS: "cannot_build"}
    if not user_input.get(EntryKey.RUN_UNCONTAINED, True):
        return {EntryKey.RUN_UNCONTAINED: "uncontained"}
    return {}
