"""How ESPHome is called."""

from pathlib import Path

from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.process.containment import Contained
from custom_components.esphome_offload.engine.build.toolchain.esphome_command import (
    EsphomeCall,
    enter_directly,
    enter_to_bundle,
    esphome_command,
)
from custom_components.esphome_offload.engine.build.toolchain.toolchain import Toolchain

TOOLCHAIN = Toolchain("2026.10.0", Path("/toolchain/bin/python"), Path("/toolchain/bin"))


def call(tmp_path: Path) -> EsphomeCall:
    return EsphomeCall(
        config_dir=tmp_path / "config",
        data_dir=tmp_path / "data",
        time_zone="Europe/Berlin",
        arguments=("compile", "lamp.yaml"),
    )


def test_esphome_runs_in_its_toolchain_and_writes_into_the_cache(tmp_path: Path) -> None:
    command = esphome_command(CacheLayout(tmp_path), enter_directly, TOOLCHAIN, call(tmp_path))
    assert command.argv == (
        "/toolchain/bin/python", "-P", "-B", "-m", "esphome", "--dashboard", "compile", "lamp.yaml",
    )  # fmt: skip
    assert command.env["TZ"] == "Europe/Berlin"
    assert command.env["PATH"].startswith("/toolchain/bin:")
    assert command.env["ESPHOME_DATA_DIR"] == str(tmp_path / "data")
    assert command.rules is None


def test_a_bundle_is_made_by_a_program_of_ours_in_the_same_python(tmp_path: Path) -> None:
    command = esphome_command(CacheLayout(tmp_path), enter_to_bundle, TOOLCHAIN, call(tmp_path))
    *python, program = command.argv[:4]
    assert python == ["/toolchain/bin/python", "-P", "-B"]
    assert Path(program).is_file()


def test_what_contains_a_build_is_asked_what_it_may_use(tmp_path: Path) -> None:
    asked: list[Contained] = []

    def containment(contained: Contained) -> None:
        asked.append(contained)

    command = esphome_command(
        CacheLayout(tmp_path),
        enter_directly,
        TOOLCHAIN,
        call(tmp_path),
        containment,  # type: ignore[arg-type]  # rules are for the launcher, which does not run
    )
    assert command.rules is None
    (contained,) = asked
    assert contained.python == TOOLCHAIN.python
    assert contained.toolchain == Path("/toolchain")
    assert contained.config_dir == tmp_path / "config"
    assert contained.data_dir == tmp_path / "data"
    assert contained.env["USER"] == "esphome"
