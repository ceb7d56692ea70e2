"""The coverage of programs that start without site-packages and without our environment."""

from pathlib import Path

import coverage

_PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"
_MEASURING = """
import sys; sys.path.append({packages!r})
import coverage, os
def saving(function):
    def wrapper(*arguments):
        coverage_.stop()
        try:
            coverage_.save()
        except (coverage.CoverageException, OSError):
            pass  # a contained process may not write where it belongs
        function(*arguments)
    return wrapper
os._exit, os.execvpe = saving(os._exit), saving(os.execvpe)
coverage_ = coverage.Coverage(config_file={config!r}, data_file={data!r}, data_suffix=True)
coverage_.start()
"""


def measured(program: str) -> str:
    """Return a program, with its coverage measured in it and its forks if that of the tests is."""
    current = coverage.Coverage.current()
    if current is None or not isinstance(data := current.get_option("run:data_file"), str):
        return program
    measuring = _MEASURING.format(
        packages=str(Path(coverage.__file__).parents[1]),
        config=str(_PYPROJECT),
        data=str(Path(data).resolve()),
    )
    return measuring + program
