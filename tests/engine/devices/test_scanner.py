"""Which files are devices."""

from .folder import KITCHEN, Folder


def test_yaml_files_with_an_esphome_block_are_devices(folder: Folder) -> None:
    folder.write("kitchen.yaml", KITCHEN)
    folder.write("hall.yml", "esphome: {name: hall}\n")
    folder.write("secrets.yaml", KITCHEN)
    folder.write("secrets.yml", KITCHEN)
    folder.write(".hidden.yaml", KITCHEN)
    folder.write("notes.txt", KITCHEN)
    folder.write("folder.yaml/inner.yaml", KITCHEN)
    folder.write("common.yaml", "wifi: {ssid: x}\n")
    folder.write("empty.yaml", "")

    result = folder.scan()

    assert result.configurations.keys() == {"kitchen.yaml", "hall.yml"}
    assert result.problems == {}


def test_two_configurations_may_have_the_same_name(folder: Folder) -> None:
    folder.write("one.yaml", KITCHEN)
    folder.write("two.yaml", KITCHEN)

    assert folder.scan().configurations.keys() == {"one.yaml", "two.yaml"}


def test_files_are_all_that_it_includes_the_main_file_first(folder: Folder) -> None:
    folder.write(
        "z.yaml",
        """
        packages: {b: !include common/base.yaml}
        sensor: !include common/sensors.yaml
        switch: !include_dir_list common/switches
        """,
    )
    folder.write("common/base.yaml", "esphome: {name: z}\nwifi: {ssid: !secret ssid }\n")
    folder.write("common/sensors.yaml", "- platform: uptime\n- !include more.yaml\n")
    folder.write("common/more.yaml", "platform: x\n")
    folder.write("common/switches/one.yaml", "platform: gpio\n")
    folder.write("secrets.yaml", "ssid: home\n")

    files = [str(file.relative_to(folder.path)) for file in folder.device("z.yaml").files]

    assert files[0] == "z.yaml"
    assert files[1:] == [
        "common/base.yaml",
        "common/more.yaml",
        "common/sensors.yaml",
        "common/switches/one.yaml",
        "secrets.yaml",
    ]


def test_a_file_outside_the_folder_is_followed(folder: Folder) -> None:
    folder.write("../shared/base.yaml", "esphome: {name: outside}\n")
    folder.write("a.yaml", "packages: {b: !include ../shared/base.yaml}\n")

    assert folder.device().node_name == "outside"
