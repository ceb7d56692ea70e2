"""A folder of configurations, made from texts."""

from pathlib import Path
import textwrap

from custom_components.esphome_offload.engine.devices.model import Configuration, ScanResult
from custom_components.esphome_offload.engine.devices.scanner import Scanner

KITCHEN = "esphome: {name: kitchen}\nhost:\n"


class Folder:
    """Writes files and scans them with one scanner."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.scanner = Scanner(path)

    def write(self, name: str, text: str) -> Path:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text), encoding="utf-8")
        return file

    def scan(self) -> ScanResult:
        return self.scanner.scan()

    def device(self, name: str = "a.yaml") -> Configuration:
        result = self.scan()
        assert name in result.configurations, result.problems
        return result.configurations[name]

    def reason(self, name: str = "a.yaml") -> str:
        result = self.scan()
        assert name not in result.configurations
        return result.problems[name].reason
