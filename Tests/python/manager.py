"""A service manager of a few lines: it hears what a daemon says, and holds the descriptors that it is given to hold."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import threading
from pathlib import Path

#: Numbers that the daemon is not handed descriptors under: those are 3 and up.
_OWN = 1_000


class Manager:
    """A datagram socket at `path`, heard on a thread of its own until `close`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.held: dict[str, list[int]] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._settled = threading.Event()
        self._thread = threading.Thread(target=self._hear)
        self._thread.start()

    def _hear(self) -> None:
        while True:
            message, descriptors, _, _ = socket.recv_fds(self._socket, 4_096, 2)
            lines = message.decode().splitlines()
            name = next((line.removeprefix("FDNAME=") for line in lines if line.startswith("FDNAME=")), "")
            if "FDSTORE=1" in lines:
                self.held.setdefault(name, []).extend(_above(_OWN, descriptor) for descriptor in descriptors)
            elif "FDSTOREREMOVE=1" in lines:
                for descriptor in self.held.pop(name, []):
                    os.close(descriptor)
            elif "SETTLE" in lines:
                self._settled.set()
            elif "CLOSE" in lines:
                return

    def settle(self) -> None:
        """Waits until everything that was said has been heard."""
        self._settled.clear()
        self._say(b"SETTLE")
        assert self._settled.wait(timeout=60)

    def close(self) -> None:
        self._say(b"CLOSE")
        self._thread.join()
        self._socket.close()

    def _say(self, text: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.sendto(text, str(self.path))

    def start(self, command: list[str]) -> tuple[list[str], dict[str, str], list[int]]:
        """The command that runs `command` with what is held as its descriptors 3 and up, its environment, and what to pass on."""
        self.settle()
        held = [(name, descriptor) for name, descriptors in self.held.items() for descriptor in descriptors]
        numbers = [number for _, number in held]
        environment = {
            "NOTIFY_SOCKET": str(self.path), "LISTEN_FDS": str(len(held)), "LISTEN_FDNAMES": ":".join(name for name, _ in held)
        }
        return [sys.executable, "-c", _HAND_OVER, ",".join(map(str, numbers)), *command], os.environ | environment, numbers


#: Becomes the command of its arguments, with the descriptors of the first as 3 and up.
_HAND_OVER = """
import os, sys
for place, number in enumerate(filter(None, sys.argv[1].split(","))):
    os.dup2(int(number), 3 + place)
    os.close(int(number))
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


def _above(least: int, descriptor: int) -> int:
    """The same file under a number of `least` or more."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, least)
    os.close(descriptor)
    return moved
