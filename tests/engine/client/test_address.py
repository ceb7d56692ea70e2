"""What people type for an address, and where that leads."""

import pytest

from custom_components.esphome_offload.engine.client.address import candidates, host


@pytest.mark.parametrize(
    ("typed", "urls"),
    [
        (
            "workshop",
            (
                "https://workshop:8123",
                "http://workshop:8123",
                "https://workshop",
                "http://workshop",
                "http://workshop:16053",
            ),
        ),
        (" workshop.local:8124 ", ("https://workshop.local:8124", "http://workshop.local:8124")),
        ("http://10.0.0.2", ("http://10.0.0.2", "http://10.0.0.2:8123", "http://10.0.0.2:16053")),
        ("https://home.example.org:443", ("https://home.example.org",)),
        ("https://workshop", ("https://workshop", "https://workshop:8123")),
        ("http://workshop:80/", ("http://workshop",)),
        ("http://workshop:8123/lovelace/0?edit=1#top", ("http://workshop:8123",)),
        ("HTTP://Workshop:1", ("http://workshop:1",)),
        ("[fe80::1]:8123", ("https://[fe80::1]:8123", "http://[fe80::1]:8123")),
        (
            "fe80::1",
            (
                "https://[fe80::1]:8123",
                "http://[fe80::1]:8123",
                "https://[fe80::1]",
                "http://[fe80::1]",
                "http://[fe80::1]:16053",
            ),
        ),
    ],
)
def test_given_parts_of_an_address_are_kept_and_others_are_tried(
    typed: str, urls: tuple[str, ...]
) -> None:
    assert candidates(typed) == urls


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "  ",
        "http://",
        "ftp://workshop",
        "a workshop",
        "me:secret@workshop",
        "http://me@workshop",
        "workshop:99999",
        "workshop:port",
        "[::1",
    ],
)
def test_a_text_that_is_no_address_is_refused(typed: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        candidates(typed)


def test_the_host_of_an_address() -> None:
    assert host("https://home.example.org:8123") == "home.example.org"
