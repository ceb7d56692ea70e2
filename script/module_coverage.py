"""Check that the tests cover each module of the integration, as Home Assistant's rules ask.

``python -m script.module_coverage COVERAGE.JSON``, of the quick tests. Prints the modules that
are below, and exits with 1 if there are any.
"""

import json
from pathlib import Path
import sys

ROOT = Path("custom_components/esphome_offload")

# Rule test-coverage: "above 95 % for all integration modules".
LEAST = 95.0
# Rule config-flow-test-coverage: "100 %", which includes the options flow.
LEAST_OF_FLOWS = 100.0

# What nothing can measure. The launcher is run by a bare interpreter (-I -S) without site packages,
# and by children of it whose system calls are restricted; the programs by ESPHome's own Python.
# tests/engine/build and tests/engine/devices have their tests.
NOT_MEASURED = (
    "engine/build/launcher/*.py",
    "engine/build/toolchain/*_program.py",
    "engine/devices/inspection/*.py",
)


def below(report: dict[str, dict[str, dict[str, dict[str, float]]]]) -> list[tuple[float, str]]:
    """Return the coverage (%) and path of the modules that are below the least one."""
    found = []
    for name, module in report["files"].items():
        path = Path(name)
        if any(path.full_match(ROOT / pattern) for pattern in NOT_MEASURED):
            continue
        flow = path == ROOT / "config_flow.py" or path.is_relative_to(ROOT / "flows")
        percent = module["summary"]["percent_covered"]
        if percent < LEAST_OF_FLOWS if flow else percent <= LEAST:
            found.append((percent, name))
    return sorted(found)


if __name__ == "__main__":
    modules = below(json.loads(Path(sys.argv[1]).read_text()))
    for percent, name in modules:
        print(f"{percent:6.2f} %  {name}")
    if modules:
        print(f"{len(modules)} modules are tested too little")
        sys.exit(1)
    print(f"each module is tested above {LEAST:.0f} %, the dialogs in full")
