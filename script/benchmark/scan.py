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

from custom_components.esphome_offload.engine.devices.scanner import Scanner

_PAGE = resource.getpagesize()


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
