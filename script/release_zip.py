"""Pack the integration, with the page built, as the file of a release that HACS installs.

Run it as ``script/release``. The same sources give the same bytes.
"""

from pathlib import Path
import sys
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

COMPONENT = Path(__file__).parents[1] / "custom_components" / "esphome_offload"
BUILT = COMPONENT / "page" / "built" / "page.js"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def files() -> list[Path]:
    """Return what a release consists of, in a fixed order; raises FileNotFoundError without the page."""
    if not BUILT.is_file():
        raise FileNotFoundError("the page is not built: run script/page")
    return sorted(
        path
        for path in COMPONENT.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != ".stamp"
    )


def pack(target: Path) -> None:
    """Write the file; the content of the integration's folder is at its top, as HACS wants it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with ZipFile(target, "w", ZIP_DEFLATED) as archive:
        for path in files():
            entry = ZipInfo(path.relative_to(COMPONENT).as_posix(), _EPOCH)
            entry.compress_type = ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes())


if __name__ == "__main__":
    pack(Path(sys.argv[1]))
