"""The files that a validated configuration names, and where a build may use other ones."""

from pathlib import Path

import pytest

from custom_components.esphome_offload.engine.build.used_files import used_files

ESPHOME: dict[str, object] = {"name": "lamp", "build_path": "build/lamp"}
RELEASE = "https://github.com/pioarduino/platform-espressif32/releases/download/55.3/esp32.zip"


def options(**given: object) -> dict[str, object]:
    return {"esphome": {**ESPHOME, **given}}


def framework(**given: object) -> dict[str, object]:
    return {"esphome": ESPHOME, "esp32": {"framework": {"type": "esp-idf", **given}}}


def component(**given: object) -> dict[str, object]:
    return framework(components=[{"name": "mine", **given}])


@pytest.mark.parametrize(
    ("config", "certain"),
    [
        ({"esphome": ESPHOME}, True),
        ({}, False),
        (options(libraries=["one@1.0", "owner/two @ ^2.1", "SPI"]), True),
        (options(libraries=["one=file:///config/one"]), False),
        (options(libraries=["one=/config/one"]), False),
        (options(libraries=["/config/one"]), False),
        (options(libraries=["https://example.com/one.git"]), False),
        (options(platformio_options={"board_build.flash_mode": "dio"}), True),
        (options(platformio_options={"board_build.f_cpu": "240000000L"}), True),
        (options(platformio_options={"upload_speed": 921600}), True),
        (options(platformio_options={"board_build.embed_txtfiles": "page.html"}), False),
        (options(platformio_options={"board_build.partitions": "mine.csv"}), False),
        (options(platformio_options={"board_build.f_cpu": ["${sysenv.X}"]}), False),
        (options(platformio_options={"extra_scripts": "x.py"}), False),
        (options(build_flags=["-I/config/include"]), False),
        (options(environment_variables={"A": "b"}), False),
        ({"esphome": ESPHOME, "external_components": [{"source": {"type": "local"}}]}, False),
        ({"esphome": ESPHOME, "external_components": []}, True),
        (framework(components=[]), True),
        (component(path="/config/esphome/my_comp"), False),
        (component(source="https://example.com/mine.git", ref="main"), False),
        (component(ref="^1.0"), False),
        (framework(source="file:///config/idf.tar.xz"), False),
        (framework(source="https://example.com/idf.tar.xz"), False),
        (framework(platform_version="symlink:///config/platform"), False),
        (framework(platform_version=RELEASE), True),
        (framework(platform_version="platformio/espressif8266@4.2.1"), True),
        (framework(platform_version=f"{RELEASE.partition('/releases')[0]}.git#develop"), False),
        ({"esphome": ESPHOME, "image": [{"file": "file:///config/one.png"}]}, False),
        ({"esphome": ESPHOME, "any": [["folder"]]}, False),
        ({"esphome": ESPHOME, "any": "k\xa0che.txt"}, False),
        ({"esphome": ESPHOME, "any": {"separator": "/", "other": "."}}, True),
        ({"esphome": ESPHOME, "any": {"__esphome_lambda__": {"value": "return 1;"}}}, True),
        ({"esphome": ESPHOME, "any": {"__esphome_lambda__": '#include "x.inc"'}}, False),
    ],
)
def test_what_may_use_unknown_files_is_not_known(
    tmp_path: Path, config: dict[str, object], certain: bool
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "k\xa0che.txt").touch()
    assert (used_files(config, tmp_path) is not None) is certain


def test_a_folder_anywhere_is_not_known(tmp_path: Path) -> None:
    config_dir = tmp_path / "config"
    config_dir.mkdir()
    assert used_files({"esphome": ESPHOME, "any": str(tmp_path)}, config_dir) is None


@pytest.mark.parametrize(
    ("source", "certain"),
    [
        ('#pragma once\n#include "esphome.h"\n', True),
        ('#include "esphome/components/sensor/sensor.h"  // its base\n', True),
        ("#include <driver/gpio.h>\n", True),
        ('#include "/config/esphome/common/x.h"\n', False),
        ('#include "../x.h"\n', False),
        ('#  include "a/../../x.h"\n', False),
        ("#include WHICH\n", False),
        ('#include \\\n"/config/x.h"\n', False),
        ('asm(".incbin \\"/config/x.bin\\"");\n', False),
        ("#embed </config/x.bin>\n", False),
    ],
)
def test_a_source_that_includes_what_is_not_copied_is_not_known(
    tmp_path: Path, source: str, certain: bool
) -> None:
    (tmp_path / "level.h").write_text(source)
    config = options(includes=["level.h"])
    assert used_files(config, tmp_path) == ([tmp_path / "level.h"] if certain else None)


def test_what_a_named_file_names_is_known_too(tmp_path: Path) -> None:
    for folder in ("models", "models/deep"):
        (tmp_path / folder).mkdir()
    (tmp_path / "models" / "words.json").write_text('{"model": "deep/words.bin"}')
    (tmp_path / "models" / "deep" / "words.bin").touch()
    config = {"esphome": ESPHOME, "model": "models/words.json"}
    assert used_files(config, tmp_path) == [
        tmp_path / "models" / "words.json",
        tmp_path / "models" / "deep" / "words.bin",
    ]
    (tmp_path / "models" / "words.json").write_text('{"models": ["deep"]}')
    assert used_files(config, tmp_path) is None


def test_a_picture_that_shows_other_ones_is_not_known(tmp_path: Path) -> None:
    config = {"esphome": ESPHOME, "image": "lamp.svg"}
    (tmp_path / "lamp.svg").write_text('<svg><use href="#bulb"/></svg>')
    assert used_files(config, tmp_path) == [tmp_path / "lamp.svg"]
    (tmp_path / "lamp.svg").write_text('<svg><image href="../bulb.png"/></svg>')
    assert used_files(config, tmp_path) is None
