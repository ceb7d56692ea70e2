"""``esphome bundle`` that also keeps the validated configuration, for ``esphome upload``.

Run as a program by a toolchain's Python, never imported. An upload that finds the validated
configuration need not validate again, which on a small board takes longer than the upload itself;
ESPHome keeps it after ``compile`` and ``upload``, but not after ``bundle``. This has it do so, with
its own function; where that is not to be had, it is the plain command.
"""

from contextlib import suppress
from importlib import import_module
import sys


def _main() -> object:
    esphome = import_module("esphome.__main__")
    with suppress(ImportError, AttributeError, KeyError):
        bundle = esphome.POST_CONFIG_ACTIONS["bundle"]
        keep = import_module("esphome.compiled_config").save_compiled_config_and_sidecar

        def bundle_and_keep(arguments: object, config: object) -> object:
            exit_code = bundle(arguments, config)
            if not exit_code:
                # Whatever another ESPHome has against it: the bundle is made.
                with suppress(Exception):
                    keep(config)
            return exit_code

        esphome.POST_CONFIG_ACTIONS["bundle"] = bundle_and_keep
    return esphome.main()


if __name__ == "__main__":
    sys.exit(_main())  # type: ignore[arg-type]
