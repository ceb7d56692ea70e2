"""What is told of a build while it runs, and how many files it has."""

import pytest

from custom_components.esphome_offload.engine.build.build_output import BuildOutput
from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.file_counts import FileCounts
from custom_components.esphome_offload.engine.const import Stage

from .conftest import Sink

LAMP = "lamp.yaml"
PICO = "Processing lamp (board: rpipicow; framework: arduino; platform: x)"


def test_while_tools_are_downloaded_that_is_the_stage(sink: Sink) -> None:
    output = BuildOutput(sink, None, {})
    for row in (b"Downloading: [==  ] 50%", b"-- Configuring done (3.2s)", b"[1/2] CC a"):
        output.progress.read(row)
        output.progressed(output.progress.loading or output.progress.percent or 0.0)
    assert sink.stages == [Stage.DOWNLOADING, Stage.COMPILING]
    assert sink.percents == [25.0, 0.0, 50.0]


def test_a_new_configuration_is_measured_by_another_for_the_same_board(sink: Sink) -> None:
    output = BuildOutput(sink, None, {"rpipicow arduino": 4, "d1_mini arduino": 8})
    output.lines([PICO])
    output.progress.read(b"Compiling .pioenvs/lamp/src/a.cpp.o")
    assert output.progress.percent == 25.0


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": "4", "kind": "x"}', "\0"])
def test_a_count_that_cannot_be_read_is_none(layout: CacheLayout, text: str) -> None:
    layout.file_count(LAMP).write_text(text)
    assert FileCounts(layout).read(LAMP) == (None, {})


def test_a_count_that_cannot_be_kept_is_no_failure(layout: CacheLayout) -> None:
    layout.file_count(LAMP).mkdir()
    FileCounts(layout).keep(LAMP, "rpipicow arduino", 4)
    assert FileCounts(layout).read(LAMP) == (None, {})
