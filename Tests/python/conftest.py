"""A real daemon for the tests that want one.

``$LAGKVD_BIN`` names the binary; without it the newest of ``.build/release/lagkvd`` and ``.build/debug/lagkvd`` is taken.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
with contextlib.suppress(ImportError):
    import lagkv  # an installed one comes first
if "lagkv" not in sys.modules:
    sys.path.insert(0, str(ROOT / "Sources" / "python"))
    # Processes that tests start find it as well.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "Sources" / "python"), os.environ.get("PYTHONPATH", "")])

import lagkv  # noqa: E402
from manager import Manager  # noqa: E402


def binary() -> Path | None:
    """The daemon to test, or None if none was built."""
    named = os.environ.get("LAGKVD_BIN")
    if named:
        return Path(named)
    built = [path for kind in ("release", "debug") if (path := ROOT / ".build" / kind / "lagkvd").exists()]
    return max(built, key=lambda path: path.stat().st_mtime, default=None)


class Daemon:
    """A private daemon on a folder of its own; it can be stopped, killed and started again on the same state."""

    def __init__(self, program: Path, folder: Path, *options: str, manager: Manager | None = None) -> None:
        self.manager = manager
        self.socket = folder / "lagkvd.sock"
        self._command = [str(program), "--socket", str(self.socket), "--state-directory", str(folder / "state"), *options]
        self._log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command, environment, descriptors = self.manager.start(self._command) if self.manager else (self._command, None, [])
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, pass_fds=descriptors)
        for _ in range(2000):
            with contextlib.suppress(lagkv.ConnectionLost):
                self.connect().close()
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.005)
        raise RuntimeError(f"{' '.join(self._command)} did not answer:\n{self.log()}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit status."""
        assert self.process is not None
        self.process.send_signal(how)
        status = self.process.wait(timeout=60)
        self.process = None
        return status

    def connect(self) -> lagkv.Client:
        return lagkv.connect(self.socket, timeout=60)

    def log(self) -> str:
        return self._log.read_text(errors="replace")


@pytest.fixture
def make_daemon(tmp_path: Path) -> Iterator[type]:
    """A function that starts a daemon with options of the test's choice; all are stopped at the end."""
    program = binary()
    if program is None:
        pytest.skip("no daemon: build one with `swift build`, or name it in LAGKVD_BIN")
    daemons: list[Daemon] = []

    def make(*options: str, manager: Manager | None = None) -> Daemon:
        folder = tmp_path / str(len(daemons))
        folder.mkdir()
        daemons.append(Daemon(program, folder, *options, manager=manager))
        daemons[-1].start()
        return daemons[-1]

    yield make  # type: ignore[misc]
    for daemon in daemons:
        if daemon.process is not None:
            status = daemon.stop()
            assert status == 0, f"the daemon ended with {status}:\n{daemon.log()}"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon for all tests of a module. It must live through all of them."""
    program = binary()
    if program is None:
        pytest.skip("no daemon: build one with `swift build`, or name it in LAGKVD_BIN")
    daemon = Daemon(program, tmp_path_factory.mktemp("daemon"))
    daemon.start()
    yield daemon
    status = daemon.process.poll() if daemon.process else None
    assert status is None, f"the daemon ended with {status}:\n{daemon.log()}"
    status = daemon.stop()
    assert status == 0, f"the daemon ended with {status}:\n{daemon.log()}"


@pytest.fixture
def client(daemon: Daemon) -> Iterator[lagkv.Client]:
    """A connection to the module's daemon. Sessions that the test made are gone afterwards."""
    with daemon.connect() as client:
        yield client
    with daemon.connect() as cleaner:
        for row in cleaner.sessions():
            delete(cleaner, row.name)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For models so small that they spend their time waiting for each other's threads."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _once_free(action: Callable[[], T]) -> T:
    """What ``action`` returns once the daemon has noticed that the session's last writer is gone."""
    for _ in range(1000):
        try:
            return action()
        except lagkv.Busy:
            time.sleep(0.005)
    return action()


def delete(client: lagkv.Client, name: str) -> None:
    """Delete a session whose writer has just hung up."""
    _once_free(lambda: client.delete(name))


def opened(client: lagkv.Client, name: str) -> lagkv.Session:
    """Open a session for writing whose writer has just hung up."""
    return _once_free(lambda: client.open(name, write=True))
