"""Generated ESPHome configurations for the benchmark."""

from pathlib import Path

_SECRETS = "wifi_ssid: home\nwifi_password: correct-horse\nota_password: battery-staple\n"
_PACKAGE = """\
wifi:
  ssid: !secret wifi_ssid
  password: !secret wifi_password
api:
ota:
  - platform: esphome
    password: !secret ota_password
logger:
  level: ${log_level}
"""
_CONFIGURATION = """\
substitutions:
  number: "{number}"
  name: room-${{number}}
  log_level: INFO
packages:
  base: !include common/base.yaml
esphome:
  name: ${{name}}
  friendly_name: Room {number}
  comment: One of many
esp32:
  board: esp32dev
  framework:
    type: esp-idf
"""
_SENSOR = """\
  - platform: template
    name: Value {index}
    id: value_{index}
    unit_of_measurement: "°C"
    lambda: |-
      if (id(value_{index}).state > {index}) {{
        return {{}};
      }}
      return {index}.5;
    update_interval: 60s
    filters:
      - sliding_window_moving_average:
          window_size: 15
          send_every: 15
"""


def generate(folder: Path, count: int) -> None:
    """Write ``count`` configurations of ordinary size, with a package and secrets."""
    (folder / "common").mkdir(parents=True)
    (folder / "common" / "base.yaml").write_text(_PACKAGE)
    (folder / "secrets.yaml").write_text(_SECRETS)
    sensors = "sensor:\n" + "".join(_SENSOR.format(index=index) for index in range(8))
    for number in range(count):
        text = _CONFIGURATION.format(number=number) + sensors
        (folder / f"room{number}.yaml").write_text(text)
