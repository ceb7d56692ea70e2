"""From bytes to lines and progress, in bounded time whatever the bytes are."""

import time

import pytest

from custom_components.esphome_offload.engine.build.process.build_progress import BuildProgress
from custom_components.esphome_offload.engine.build.process.output import OutputParser
from custom_components.esphome_offload.engine.job_log import LINE_LIMIT


def parse(*chunks: bytes) -> tuple[list[str], list[float]]:
    parser = OutputParser()
    lines: list[str] = []
    progress: list[float] = []
    for chunk in chunks:
        more, percent = parser.feed(chunk)
        lines += more
        if percent is not None:
            progress.append(percent)
    return lines + parser.finish(), progress


def progress_of(*lines: str) -> list[float]:
    return parse(*(line.encode() + b"\n" for line in lines))[1]


def test_lines_are_handed_on_without_terminators() -> None:
    assert parse(b"one\ntwo\r\n\nfour\n")[0] == ["one", "two", "", "four"]


def test_a_line_is_handed_on_once_however_the_bytes_are_cut() -> None:
    output = (
        "\\033[32mINFO ESPHome µ\\033[0m\r\n\rUploading: [=  ] 33% \rUploading: [===] 100% \r\nend"
    )
    data = output.encode()
    whole = parse(data)[0]
    assert whole == ["INFO ESPHome µ", "Uploading: [===] 100% ", "end"]
    assert parse(*(data[index : index + 1] for index in range(len(data))))[0] == whole
    for cut in range(len(data)):
        assert parse(data[:cut], data[cut:])[0] == whole


@pytest.mark.parametrize(
    "coloured",
    [
        b"\x1b[1;31mFailed config\x1b[0m\n",
        rb"\033[1;31mFailed config\033[0m" + b"\n",
        b"\x1b]8;;file:///x\x07Failed config\x1b]8;;\x1b\\\x1b[K\n",
    ],
    ids=["escape codes", "as --dashboard prints them", "links"],
)
def test_escape_codes_are_removed(coloured: bytes) -> None:
    assert parse(coloured)[0] == ["Failed config"]


def test_a_progress_bar_gives_progress_while_drawn_and_one_line_in_the_end() -> None:
    parser = OutputParser()
    assert parser.feed(b"\rUploading: [==    ] 10% ") == ([], 10.0)
    assert parser.feed(b"\rUploading: [===   ] 50% ") == ([], 50.0)
    assert parser.feed(b"\rUploading: [======] 100% Done...\r\n") == (
        ["Uploading: [======] 100% Done..."],
        100.0,
    )


def test_a_line_printed_over_a_progress_bar_replaces_it() -> None:
    assert parse(b"\rUploading: [== ] 40% \rERROR Error sending data\n") == (
        ["ERROR Error sending data"],
        [40.0],
    )


def test_progress_that_did_not_change_is_not_reported_again() -> None:
    assert progress_of("[5/50] CC a.o", "noise", "[5/50] CC a.o", "[10/50] CC b.o") == [10.0, 20.0]


@pytest.mark.parametrize(
    ("line", "percent"),
    [
        ("[26/52] CXX obj/src/main.cpp.o", 50.0),
        ("[52/52] LINK program", 100.0),
        ("[ 42%] Building CXX object", 42.0),
        ("[100%] Linking", 100.0),
        ("Writing at 0x00010000... (3 %)", 3.0),
        ("Writing at 0x00010000... (100 %)", 100.0),
        ("Writing at 0x0001c1d2 [=====>       ]  42.5% 123456/290816 bytes...", 42.0),
        ("Uploading: [==========          ] 50% ", 50.0),
    ],
)
def test_each_tool_is_understood(line: str, percent: float) -> None:
    assert progress_of(line) == [percent]


@pytest.mark.parametrize(
    "line",
    [
        "RAM:   [==        ]  15.2% (used 49832 bytes from 327680 bytes)",
        "Flash: [=====     ]  52.1% (used 956213 bytes from 1835008 bytes)",
        "bad.bin binary size 0xe7a0 bytes. 0xd5f50 bytes (48%) free.",
        "Downloading  [####################################]  100%",
        "Unpacking 0% 10% 20%",
        "INFO Uploading /data/firmware.bin (512345 bytes)",
        "[18:29:52][D][sensor:093]: 'Humidity': Sending state 42 %",
        "-- Build files have been written to: /x [1/2] y",
        "[0/0] nothing",
    ],
)
def test_percents_that_are_no_progress_are_left_alone(line: str) -> None:
    assert progress_of(line) == []


@pytest.mark.parametrize("digits", [4000, 5000])
def test_numbers_that_no_tool_prints_do_no_harm(digits: int) -> None:
    assert progress_of(f"[{'1' * digits}/2] x", "[1/2] x") == [50.0]


@pytest.mark.parametrize("begin", ["Writing at ", "Uploading: "])
def test_progress_is_not_looked_for_all_along_a_line(begin: str) -> None:
    assert progress_of(begin + "x" * 1000 + " 50%") == []


def test_a_sub_build_moves_the_progress_inside_its_step() -> None:
    """The IDF builds its bootloader with a ninja inside ninja; here the outer one has less to do."""
    outer_steps = 50
    sub_build = [f"[{step}/4] Building C object boot{step}.obj" for step in range(1, 5)]
    assert progress_of(
        f"[10/{outer_steps}] Performing build step for 'bootloader'",
        *sub_build,
        f"[11/{outer_steps}] No install step for 'bootloader'",
        f"[25/{outer_steps}] Building CXX object",
    ) == [20.0, 20.5, 21.0, 21.5, 22.0, 50.0]


def test_a_sub_build_that_ends_is_left_even_when_the_number_of_steps_shrank() -> None:
    assert progress_of(
        "[10/50] Performing build step for 'bootloader'",
        "[123/123] Generating binary image",
        "[12/48] Completed 'bootloader'",
        "[24/48] Building CXX object",
    ) == [20.0, 22.0, 25.0, 50.0]


def test_a_sub_build_with_as_many_steps_as_that_around_it_is_one_too() -> None:
    assert progress_of(
        "[10/50] Performing build step for 'bootloader'",
        "[5/50] Building C object a.obj",
        "[50/50] Linking",
        "[12/50] Completed 'bootloader'",
        "[25/50] Building CXX object",
    ) == [20.0, 20.2, 22.0, 24.0, 50.0]


def test_a_build_that_only_builds_others_gives_them_most_of_the_progress() -> None:
    """sysbuild: sixteen steps that take no time, and the whole work inside of two of them."""
    progress = progress_of(
        "[1/16] Creating directories for 'mcuboot'",
        "[10/16] Performing build step for 'mcuboot'",
        "[180/180] Linking",
        "[11/16] No install step for 'mcuboot'",
        "[12/16] Performing build step for 'zephyr'",
        "[210/420] Building C object",
        "[420/420] Linking",
        "[13/16] No install step for 'zephyr'",
        "[16/16] Generating merged.hex",
    )
    assert progress == sorted(progress)
    assert [round(percent) for percent in progress] == [42, 60, 78, 100]


def test_files_that_are_compiled_count_against_those_of_a_build_like_it() -> None:
    parser = OutputParser(BuildProgress(files=4))
    shown = [parser.feed(b"Compiling .pioenvs/lamp/src/a.cpp.o\n")[1] for _ in range(5)]
    # The last one that is known of may not be the last one.
    assert shown == [25.0, 50.0, 75.0, 99.0, None]


def test_of_a_build_like_no_other_the_progress_is_estimated_and_never_at_its_end() -> None:
    shown = progress_of(*(f"Compiling .pioenvs/lamp/src/{each}.cpp.o" for each in range(2000)))
    assert shown == sorted(shown)
    assert 60 < shown[250] < 70
    assert shown[-1] == 99.0


def test_an_unannounced_smaller_sub_build_does_not_drive_the_progress() -> None:
    assert progress_of("[110/1100] a", "[123/123] b", "[220/1100] c") == [10.0, 20.0]


def test_progress_goes_on_when_ninja_finds_steps_that_it_need_not_do() -> None:
    assert progress_of("[100/1000] a", "[475/950] b") == [10.0, 50.0]


def test_ninja_redrawing_its_status_in_one_row_is_understood() -> None:
    """What ESPHome makes of the output of an ESP-IDF build."""
    lines, progress = parse(
        rb"INFO Compiling" + b"\n\r[1/100] Building C" + rb"\033[K",
        b"\r[50/100] Building C" + rb"\033[K",
        b"\r[100/100] Linking" + rb"\033[K" + b"\nRAM: [=] 10.0%\n",
    )
    assert lines == ["INFO Compiling", "[100/100] Linking", "RAM: [=] 10.0%"]
    assert progress == [1.0, 50.0, 100.0]


def test_tools_that_are_downloaded_have_a_progress_of_their_own() -> None:
    progress = BuildProgress()
    parser = OutputParser(progress)
    shown = []
    for row in (
        b"\rDownloading: [==  ] 50% ",
        b"\rDownloading: [====] 100% Done...\r\n",
        b"\rExtracting: [==  ] 50% ",
        b"Tool Manager: Installing platformio/toolchain-x @ ~1.2\n",
        b"Unpacking  [####----]  50%  00:00:01\n",
        b"Receiving objects:  50% (1/2)\r",
    ):
        assert parser.feed(row)[1] is None
        shown.append(progress.loading)
    # Each takes half of what is left: nobody says how many there are.
    assert shown == [25.0, 50.0, 62.5, 62.5, 62.5, 62.5]
    parser.feed(b"-- The C compiler identification is GNU 14.2.0\n")
    assert progress.loading is None
    parser.feed(b"\n[1/100] Building C object x.obj\nUnpacking 50%\n")
    assert (progress.loading, progress.percent) == (None, 1.0)


def test_of_output_without_any_newline_only_a_line_is_kept() -> None:
    parser = OutputParser()
    for _ in range(1000):
        assert parser.feed(b"x" * 1000) == ([], None)
        assert len(parser._pending) <= 4 * LINE_LIMIT
    (line,), _ = parser.feed(b"\nnext")
    assert len(line) == LINE_LIMIT
    assert parser.finish() == ["next"]


def test_of_a_long_line_the_beginning_and_the_end_are_kept() -> None:
    line, short = parse(b"begin" + b"x" * 10_000 + b"end\nshort\n")[0]
    assert (len(line), line[:5], line[-3:], short) == (LINE_LIMIT, "begin", "end", "short")
    line, _ = parse(b"begin", *(b"x" * 1000 for _ in range(50)), b"end\nshort\n")[0]
    assert (len(line), line[:5], line[-3:]) == (LINE_LIMIT, "begin", "end")


PIECE = 16 * 1024
ENDLESS = {
    "beginnings of progress": b"Writing at ",
    "beginnings of a row": b"\rUploading: ",
    "beginnings of lines": b"\nUploading: ",
    "rows of progress": b"\r[1/2] x",
    "lines of progress": b"Writing at 0x0 (1 %)\n",
    "escape codes without end": b"\x1b[0",
    "links without end": b"\x1b]8;;",
    "blanks": b" ",
    "brackets": b"[ ",
    "empty states": b"\r",
    "digits": b"1",
}


@pytest.mark.parametrize("text", ENDLESS.values(), ids=ENDLESS)
def test_endless_output_is_handled_in_bounded_pieces(
    text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Progress text without an end once took 411 ms in one turn of the event loop."""
    looked_at: list[int] = []
    find_progress = OutputParser._find_progress

    def counted(self: OutputParser, block: bytes) -> None:
        looked_at.append(len(block))
        find_progress(self, block)

    monkeypatch.setattr(OutputParser, "_find_progress", counted)
    parser = OutputParser()
    data = (text * (PIECE // len(text) + 1))[:PIECE]
    spent = []
    for _ in range(10):
        looked_at.clear()
        before = time.thread_time()
        parser.feed(data)
        spent.append(time.thread_time() - before)
        assert sum(looked_at) <= 2 * (PIECE + 4 * LINE_LIMIT)
        assert len(parser._pending) <= 4 * LINE_LIMIT
    assert min(spent) < 0.02


def test_bytes_that_are_no_utf8_are_replaced() -> None:
    assert parse(b"caf\xe9\n")[0] == ["caf\ufffd"]


def test_blank_lines_are_kept_but_no_empty_last_line_is_made_up() -> None:
    assert parse(b"a\n\n")[0] == ["a", ""]
