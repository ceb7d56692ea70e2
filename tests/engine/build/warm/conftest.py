"""Warm Pythons of a toolchain, with their coverage measured."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from custom_components.esphome_offload.engine.build.process import warm as warm_module
from custom_components.esphome_offload.engine.build.process.processes import (
    Processes,
)
from custom_components.esphome_offload.engine.build.process.warm import WarmPythons

from ..measured import measured
from .toolchain import Toolchain


@pytest.fixture
def toolchain(tmp_path: Path) -> Toolchain:
    return Toolchain(tmp_path / "toolchain")


@pytest.fixture
def pythons(monkeypatch: pytest.MonkeyPatch) -> WarmPythons:
    monkeypatch.setattr(warm_module, "_PROGRAM", measured(warm_module._PROGRAM))
    return WarmPythons()


@pytest.fixture
async def processes(pythons: WarmPythons) -> AsyncIterator[Processes]:
    processes = Processes(warm=pythons)
    yield processes
    await processes.aclose()
