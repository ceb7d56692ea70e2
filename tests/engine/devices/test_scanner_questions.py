"""What ESPHome is asked about, and when again."""

from custom_components.esphome_offload.engine.devices.answers import Answer
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .folder import KITCHEN, Folder

HALL = "esphome: {name: hall}\nhost:\n"


class TestAsking:
    """ESPHome is asked about what changed, and about nothing else."""

    async def test_nothing_is_asked_while_nothing_changes(self, folder: Folder) -> None:
        folder.write("a.yaml", KITCHEN + "wifi: !include wifi.yaml\n")
        folder.write("wifi.yaml", "ssid: !secret ssid\n")
        folder.write("secrets.yaml", "ssid: x\n")
        first = await folder.scan()

        assert await folder.scan() is first
        assert folder.inspector.asked == [["a.yaml", "wifi.yaml"]]

    async def test_the_files_that_depend_on_a_change_are_asked_about_together(
        self, folder: Folder
    ) -> None:
        folder.write("a.yaml", KITCHEN + "wifi: !include common/wifi.yaml\n")
        folder.write("b.yaml", HALL + "wifi: !include common/wifi.yaml\n")
        folder.write("c.yaml", HALL)
        folder.write("common/wifi.yaml", "ssid: x\n")
        await folder.scan()

        folder.write("common/wifi.yaml", "ssid: other\n")
        await folder.scan()

        assert folder.inspector.asked[1:] == [["a.yaml", "b.yaml"]]

    async def test_what_was_looked_for_is_noticed_when_it_appears(self, folder: Folder) -> None:
        folder.write("a.yaml", KITCHEN + "wifi: !include common/wifi.yaml\n")
        await folder.scan()

        folder.write("common/wifi.yaml", "ssid: x\n")
        await folder.scan()

        assert folder.inspector.asked == [["a.yaml"], ["a.yaml"]]

    async def test_a_file_that_appears_in_an_included_folder_is_noticed(
        self, folder: Folder
    ) -> None:
        folder.write("a.yaml", KITCHEN)
        folder.write("parts/one.yaml", "x: 1\n")
        folder.inspector.answers["a.yaml"] = Answer(
            "a.yaml", node_name="kitchen", reads=("a.yaml", "parts", "parts/one.yaml")
        )
        await folder.scan()

        folder.write("parts/two.yaml", "x: 1\n")
        await folder.scan()

        assert folder.inspector.asked == [["a.yaml"], ["a.yaml"]]

    async def test_devices_come_and_go_with_their_files(self, folder: Folder) -> None:
        folder.write("a.yaml", KITCHEN).rename(folder.path / "b.yaml")
        assert (await folder.scan()).configurations.keys() == {"b.yaml"}

        (folder.path / "b.yaml").rename(folder.path / "c.yaml")

        assert (await folder.scan()).configurations.keys() == {"c.yaml"}

    async def test_another_esphome_is_asked_about_all(self, folder: Folder) -> None:
        folder.inspector.version = None
        folder.write("a.yaml", KITCHEN)
        assert (await folder.scan()).unsure == {"a.yaml"}
        assert folder.inspector.asked == []

        for version in ("2026.10.0", "2026.11.0"):
            folder.inspector.version = version
            assert (await folder.scan()).unsure == set()

        assert folder.inspector.asked == [["a.yaml"], ["a.yaml"]]

    async def test_the_plain_reader_keeps_the_list_while_esphome_does_not_answer(
        self, folder: Folder
    ) -> None:
        folder.write("a.yaml", KITCHEN)
        folder.write("b.yaml", "esphome: !include x.yaml\nhost:\n")
        folder.inspector.answers["b.yaml"] = Answer(
            "b.yaml", node_name="hall", platform="host", reads=("b.yaml",)
        )
        before = (await folder.scan()).configurations
        folder.inspector.silent = True
        folder.write("a.yaml", KITCHEN + "#\n")
        folder.write("b.yaml", "esphome: !include y.yaml\nhost:\n")

        result = await folder.scan()
        await folder.scan()

        assert result.configurations == before
        assert result.unsure == {"a.yaml", "b.yaml"}
        # It may need a repair: it is not asked again at each look.
        assert len(folder.inspector.asked) == 2

    async def test_a_file_that_met_a_limit_is_tried_again_but_not_at_once(
        self, folder: Folder
    ) -> None:
        folder.write("a.yaml", KITCHEN)
        problem = Reason(ReasonKey.CONFIGURATION_TAKES_TIME, {"file": "a.yaml"})
        folder.inspector.answers["a.yaml"] = Answer(
            "a.yaml", node_name="kitchen", problem=problem, reads=("a.yaml",)
        )
        for _ in range(3):
            assert (await folder.scan()).problems == {"a.yaml": problem}
        # The second time at once, as after a restart: the machine may have been busy.
        assert folder.inspector.asked == [["a.yaml"]] * 2
        folder.inspector.answers.clear()
        folder.scanner._limits_again.clear()

        assert (await folder.scan()).problems == {}
        await folder.scan()

        assert folder.inspector.asked == [["a.yaml"]] * 3

    async def test_a_quick_scan_asks_nobody(self, folder: Folder) -> None:
        folder.write("a.yaml", KITCHEN)
        result = await folder.scanner.scan(ask=False)
        assert result.configurations["a.yaml"].node_name == "kitchen"
        assert folder.inspector.asked == []


class TestRemotePackages:
    """Remote packages are fetched in the background, once in a while."""

    MISSING = Answer("a.yaml", remote_packages_missing=True, reads=("a.yaml",))

    async def test_they_are_fetched_and_the_next_scan_shows_the_device(
        self, folder: Folder
    ) -> None:
        folder.write("a.yaml", "packages: [github://x/y/z.yaml]\n")
        folder.write("b.yaml", KITCHEN)
        folder.inspector.answers["a.yaml"] = self.MISSING
        await folder.scan()
        folder.inspector.answers["a.yaml"] = Answer(
            "a.yaml", node_name="a", platform="host", reads=("a.yaml",)
        )

        await folder.scanner.fetch_packages()
        await folder.scanner.fetch_packages()

        assert folder.inspector.fetched == [["a.yaml"]]
        assert (await folder.scan()).configurations.keys() == {"a.yaml", "b.yaml"}
        assert folder.inspector.asked == [["a.yaml", "b.yaml"]]

    async def test_what_could_not_be_fetched_is_not_tried_again_at_once(
        self, folder: Folder
    ) -> None:
        folder.write("a.yaml", "packages: [github://x/y/z.yaml]\n")
        folder.inspector.answers["a.yaml"] = self.MISSING
        await folder.scan()
        for _ in range(3):
            await folder.scanner.fetch_packages()
        assert folder.inspector.fetched == [["a.yaml"]]

    async def test_nothing_is_fetched_while_the_folder_is_away(self, folder: Folder) -> None:
        folder.write("a.yaml", "packages: [github://x/y/z.yaml]\n")
        folder.inspector.answers["a.yaml"] = self.MISSING
        await folder.scan()
        folder.path.rename(folder.path.with_name("away"))
        await folder.scanner.fetch_packages()
        assert folder.inspector.fetched == []
