"""What ESPHome quotes from a configuration does no harm where it is shown."""

from custom_components.esphome_offload.engine.build.process.output import OutputParser


def test_control_characters_do_not_reach_a_line() -> None:
    lines, _ = OutputParser().feed(b"level: \x1b[31mred\x07\x00\x1bc\x08\tk\xc3\xbcche\x7f\r\n")

    assert lines == ["level: redc\tk\N{LATIN SMALL LETTER U WITH DIAERESIS}che"]
