"""One ESPHome in a virtual environment of its own."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Toolchain:
    """An ESPHome that is ready to be called. ``bin`` holds the programs installed with it."""

    version: str
    python: Path
    bin: Path

    @property
    def python_command(self) -> tuple[str, ...]:
        """The beginning of a command line that runs its Python."""
        # -P: else a file of the user's folder, say json.py, would be taken for a module of ESPHome's.
        # -B: no bytecode is written beside the user's components; that of the toolchain is there.
        return (str(self.python), "-P", "-B")

    @property
    def folders(self) -> tuple[Path, Path]:
        """Where it is, and where the Python is that it is made of. Blocks."""
        return self.bin.parent, self.python.resolve().parents[1]

    @property
    def ccache(self) -> Path:
        """The compiler cache's program, which may be missing."""
        return self.bin / "ccache"
