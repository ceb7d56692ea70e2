"""Devices of one configuration whose names end in a part of their MAC addresses.

ESPHome's ``host`` program has its MAC address compiled in, and listens on every address of the
machine. Two things stand in for hardware: a component takes the last byte of the MAC address from
the environment, and a small library binds each program to a loopback address of its own.
"""

from pathlib import Path
from typing import override

from .device import Device
from .processes import environment, run

NAME = "sibling"
_COMPONENT = """\
import esphome.codegen as cg
import esphome.config_validation as cv
from esphome.core import CORE
from esphome.coroutine import coroutine_with_priority

CONFIG_SCHEMA = cv.Schema({})
MAC = "USE_ESPHOME_HOST_MAC_ADDRESS"


@coroutine_with_priority(-1000.0)
async def to_code(config):
    for define in [define for define in CORE.defines if define.name == MAC]:
        CORE.defines.remove(define)
    number = 'static_cast<uint8_t>(atoi(getenv("DEVICE_NUMBER")))'
    cg.add_define(MAC, cg.RawExpression(f"{{0x02, 0, 0, 0, 0x77, {number}}}"))
"""
_BIND = """\
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

int bind(int fd, const struct sockaddr *where, socklen_t size) {
  int (*real)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "bind");
  struct sockaddr_storage own;
  if (size > sizeof own) return real(fd, where, size);
  memcpy(&own, where, size);
  struct sockaddr_in *v4 = (struct sockaddr_in *) &own;
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *) &own;
  in_addr_t address = inet_addr(getenv("DEVICE_ADDRESS"));
  if (own.ss_family == AF_INET && v4->sin_addr.s_addr == INADDR_ANY) {
    v4->sin_addr.s_addr = address;
  } else if (own.ss_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr)) {
    v6->sin6_addr.s6_addr[10] = v6->sin6_addr.s6_addr[11] = 0xff;
    memcpy(&v6->sin6_addr.s6_addr[12], &address, sizeof address);
  }
  return real(fd, (struct sockaddr *) &own, size);
}
"""


NUMBERED = "external_components:\n  - source: components\nnumbered:\n"
"""What a configuration has that takes the last byte of its MAC address from DEVICE_NUMBER."""


def write_numbered(config_dir: Path) -> None:
    """Write the component that ``NUMBERED`` needs."""
    component = config_dir / "components" / "numbered" / "__init__.py"
    component.parent.mkdir(parents=True, exist_ok=True)
    component.write_text(_COMPONENT)


class Sibling(Device):
    """One of them; the configuration is the same for all."""

    suffix = "\n  name_add_mac_suffix: true"
    components = NUMBERED

    def __init__(self, number: int, folder: Path, config_dir: Path) -> None:
        """``folder`` is that of all of them, ``number`` makes the addresses."""
        write_numbered(config_dir)
        super().__init__(NAME, folder / str(number), config_dir)
        self.address = f"127.0.0.{number + 10}"
        self.mac = f"02:00:00:00:77:{number:02x}"
        self.node_name = f"{NAME}-{self.mac.replace(':', '')[-6:]}"
        self._library = folder / "bind.so"
        self.variables = {
            "DEVICE_NUMBER": str(number),
            "DEVICE_ADDRESS": self.address,
            "LD_PRELOAD": str(self._library),
        }

    @property
    def target(self) -> str:
        """What its update entity is known by."""
        return f"{self.configuration}@{self.mac}"

    @override
    async def switch_on(self) -> None:
        """Start its program with the library."""
        if not self._library.exists():
            source = self._library.with_suffix(".c")
            source.write_text(_BIND)
            build: list[str | Path] = ["cc", "-shared", "-fPIC", "-o", self._library, source]
            await run(build, cwd=self.folder, env=environment(), seconds=60)
        await super().switch_on()

    @property
    @override
    def _compiled_mac(self) -> str:
        return "02:00:00:00:77:00"

    @property
    @override
    def _remembered_ports(self) -> Path:
        # Their ports are the same: they are compiled in.
        return self.folder.parent / "ports.json"
