"""Compare what is said of configurations with ESPHome's full validation of them.

``python -m script.judge_devices FOLDER [--components]``. FOLDER holds configurations; with
``--components`` it is ``tests`` of ESPHome's own sources, whose component tests are used. Prints
each difference and the figures; exits with 1 if there is a difference. Full validation takes seconds
for each file.
"""

import argparse
import asyncio
from collections.abc import Iterator, Mapping
import json
from pathlib import Path
import subprocess
import sys
import tempfile
from typing import Any

from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.process.processes import Processes
from custom_components.esphome_offload.engine.build.toolchain.toolchains import Toolchains
from custom_components.esphome_offload.engine.build.toolchain.uv import Uv
from custom_components.esphome_offload.engine.devices.answers import Answer
from custom_components.esphome_offload.engine.devices.inspector import EsphomeInspector

_VERSION = "2026.10.0"
_CACHE = Path(__file__).parents[1] / ".cache" / "test-toolchains"
_TIMEOUT = 300.0

# Run by the toolchain's Python: one line of JSON for each file that ESPHome accepts.
_JUDGE = """
import json, logging, os, sys
from pathlib import Path
from esphome.config import read_config
from esphome.core import CORE
logging.disable(logging.CRITICAL)
output = os.dup(1)
os.dup2(os.open(os.devnull, os.O_RDWR), 1)
for name in sys.stdin.read().split("\\0"):
    child = os.fork()
    if child == 0:
        try:
            CORE.reset()
            CORE.config_path = Path(name)
            config = read_config({})
            if config is None:
                os._exit(0)
            CORE.config = config
            core = config["esphome"]
            safe_mode = config.get("safe_mode") or {}
            advanced = (config.get("esp32") or {}).get("framework", {}).get("advanced", {})
            ota = [(each["platform"], each.get("port")) for each in config.get("ota", [])]
            said = {
                "node_name": core["name"],
                "friendly_name": core.get("friendly_name") or None,
                "comment": core.get("comment"),
                "platform": CORE.target_platform,
                "deep_sleep": "deep_sleep" in config,
                "adds_mac_suffix": core["name_add_mac_suffix"],
                "address": CORE.address,
                "api": "api" in config,
                "ota": [[p, config["web_server"]["port"] if p == "web_server" else n] for p, n in ota],
                "good_after": safe_mode["boot_is_good_after"].total_milliseconds / 1000
                if advanced.get("enable_ota_rollback") and CORE.is_esp32 else 0.0,
            }
            line = json.dumps({"file": name, "said": said}, default=str)
            os.write(output, line.encode() + b"\\n")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
"""


def _component_tests(tests: Path, folder: Path) -> None:
    """Write one configuration for each component test, as ESPHome's own script does."""
    bases = tests / "test_build_components"
    for test in sorted(tests.glob("components/*/test.*.yaml")):
        base = bases / f"build_components_base.{test.name.split('.')[1]}.yaml"
        if not base.is_file():
            continue
        text = base.read_text().replace("$component_name", test.parent.name)
        text = text.replace("$component_test_file", str(test))
        name = f"{test.parent.name}-{test.name.split('.')[1]}.yaml"
        (folder / name).write_text(text)


def _said(answer: Answer) -> dict[str, Any]:
    access = answer.access
    return {
        "node_name": answer.node_name,
        "friendly_name": answer.friendly_name,
        "comment": answer.comment,
        "platform": {"rp2040": "rp2"}.get(answer.platform or "", answer.platform),
        "deep_sleep": answer.deep_sleep,
        "adds_mac_suffix": answer.adds_mac_suffix,
        "address": access.address,
        "api": access.api,
        "ota": [[each.platform, each.port] for each in access.ota or ()],
        "good_after": access.good_after,
    }


async def _ask(folder: Path, names: list[str]) -> tuple[Mapping[str, Answer], Path]:
    layout = CacheLayout(_CACHE)
    layout.make()
    processes = Processes()
    uv = Uv(layout, (sys.executable, "-m", "uv"), Path(sys.executable))
    toolchains = Toolchains(layout, processes, uv)
    toolchain = await toolchains.ensure(_VERSION, lambda _lines: None)
    answers = await EsphomeInspector(layout, processes, toolchains).ask(folder, names)
    await processes.aclose()
    return answers, toolchain.python


def _judged(python: Path, folder: Path, names: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    files = "\0".join(str(folder / name) for name in names)
    done = subprocess.run(
        [python, "-P", "-c", _JUDGE],
        input=files,
        capture_output=True,
        text=True,
        check=True,
        timeout=_TIMEOUT * max(1, len(names) // 20),
    )
    for line in done.stdout.splitlines():
        found = json.loads(line)
        yield Path(found["file"]).name, found["said"]


def judge(folder: Path, every: int) -> int:
    """Print the differences and return their number."""
    names = sorted(path.name for path in folder.glob("*.yaml") if path.name != "secrets.yaml")
    names = names[::every]
    answers, python = asyncio.run(_ask(folder, names))
    accepted = dict(_judged(python, folder, names))
    differences = 0
    for name, said in accepted.items():
        ours = _said(answers[name])
        for key, value in said.items():
            # A comment with a secret is left out.
            if ours[key] != value and not (key == "comment" and ours[key] is None):
                differences += 1
                print(f"{name}: {key} is {value!r}, not {ours[key]!r}")
    named = sum(answer.node_name is not None for answer in answers.values())
    print(
        f"{len(names)} configurations, {named} with a name; ESPHome accepts {len(accepted)};"
        f" {differences} differences in {10 * len(accepted)} facts"
    )
    return differences


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--components", action="store_true")
    parser.add_argument("--every", type=int, default=1, help="only each so many-th file")
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    if not arguments.components:
        sys.exit(judge(folder, arguments.every) > 0)
    with tempfile.TemporaryDirectory() as made:
        _component_tests(folder, Path(made))
        sys.exit(judge(Path(made), arguments.every) > 0)


if __name__ == "__main__":
    main()
