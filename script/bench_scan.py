"""One scan of a folder of configurations, measured in a process of its own.

Prints one JSON object: seconds of the first scan, MiB by which the process grew at most, and
seconds of a second scan with nothing changed.
"""

import gc
import json
from pathlib import Path
import resource
import sys
import time

from custom_components.esphome_offload.devices.scanner import Scanner

_PAGE = resource.getpagesize()

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


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def main() -> None:
    """Scan the folder that the argument names."""
    scanner = Scanner(Path(sys.argv[1]))
    gc.collect()
    before = _resident()
    began = time.perf_counter()
    result = scanner.scan()
    seconds = time.perf_counter() - began
    # The peak, not what is left afterwards: it has to be there when it is needed.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    began = time.perf_counter()
    scanner.scan()
    again = time.perf_counter() - began
    assert not result.problems, result.problems
    found = len(result.configurations)
    grown = max(peak - before, 0) / 2**20
    print(json.dumps({"configurations": found, "seconds": seconds, "mb": grown, "again_s": again}))


if __name__ == "__main__":
    main()
