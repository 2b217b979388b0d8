"""Starting, reloading and stopping: every reason not to start has its exit status and says what to do."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Daemon, binary


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a daemon that is expected to end by itself, in an environment of its own."""
    program = binary()
    if program is None:
        pytest.skip("no daemon: build one with `swift build`, or name it in LAGKVD_BIN")

    def run(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", **environment}
        return subprocess.run([program, *options], capture_output=True, text=True, timeout=60, env=environment)

    return run


def places(folder: Path) -> list[str]:
    return ["--socket", str(folder / "s"), "--state-directory", str(folder / "state")]


def test_a_wrong_flag_is_64(start) -> None:
    done = start("--memory-bugdet", "1GiB")
    assert done.returncode == 64 and "--memory-budget" in done.stderr


def test_a_wrong_configuration_is_78_and_names_every_line(start, tmp_path: Path) -> None:
    file = tmp_path / "c.conf"
    file.write_text("workers = many\nstagging = 1GiB\n")
    done = start("--config", str(file))
    assert done.returncode == 78
    assert f"{file}:1: workers; seen: “many”; expected: a whole number from 1 to 1024" in done.stderr
    assert f"{file}:2: unknown key; seen: “stagging”; expected: perhaps “staging”" in done.stderr


def test_check_config_starts_nothing(start, tmp_path: Path) -> None:
    done = start("--check-config", *places(tmp_path), LAGKVD_WORKERS="3")
    assert done.returncode == 0 and "workers = 3" in done.stdout and "# $LAGKVD_WORKERS" in done.stdout
    assert not (tmp_path / "state").exists()


def test_a_state_directory_in_use_is_75(start, make_daemon, tmp_path: Path) -> None:
    make_daemon()
    done = start("--socket", str(tmp_path / "s"), "--state-directory", str(tmp_path / "0/state"))
    assert done.returncode == 75 and "to do: stop the other daemon" in done.stderr


def test_a_socket_in_use_is_69_and_stays(start, make_daemon, tmp_path: Path) -> None:
    daemon = make_daemon()
    done = start("--socket", str(daemon.socket), "--state-directory", str(tmp_path / "other"))
    assert done.returncode == 69 and "another process answers there" in done.stderr
    daemon.connect().close()


def test_something_else_at_the_sockets_path_is_74_and_stays(start, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    done = start(*places(tmp_path))
    assert done.returncode == 74 and (tmp_path / "s").read_text() == "precious"


def test_a_socket_in_a_directory_that_everybody_may_write_is_74(start, tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    done = start("--socket", str(folder / "s"), "--state-directory", str(tmp_path / "state"))
    assert done.returncode == 74 and "everybody may write to" in done.stderr


def test_a_state_directory_that_is_a_file_is_73(start, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    done = start(*places(tmp_path))
    assert done.returncode == 73 and "choose another state-directory" in done.stderr


def test_two_sockets_of_a_service_manager_are_76(start, tmp_path: Path) -> None:
    program = binary()
    # The process id must be the daemon's: a shell that becomes it knows.
    script = f'LISTEN_PID=$$ LISTEN_FDS=2 exec {program} "$@"'
    done = subprocess.run(["sh", "-c", script, "sh", *places(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 76 and "LISTEN_FDS has 2 sockets" in done.stderr


def test_a_stale_socket_is_replaced(make_daemon) -> None:
    daemon: Daemon = make_daemon()
    daemon.stop(signal.SIGKILL)
    assert daemon.socket.exists()
    daemon.start()
    daemon.connect().close()


def test_sighup_reads_the_file_again(make_daemon, tmp_path: Path) -> None:
    file = tmp_path / "c.conf"
    file.write_text("memory-budget = 64MiB\n")
    daemon: Daemon = make_daemon("--config", str(file))
    assert daemon.process is not None
    with daemon.connect() as client:
        assert client.status()["memory_budget_bytes"] == str(64 << 20)
        file.write_text("memory-budget = 65MiB\nworkers = 1000\n")
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(daemon, "configuration read again")
        assert client.status()["memory_budget_bytes"] == str(65 << 20)
        assert "at the next start: workers = 1000" in daemon.log()
        file.write_text("memory-budget = a lot\n")
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(daemon, "the one in use stays")
        assert client.status()["memory_budget_bytes"] == str(65 << 20)


def test_the_service_manager_is_told(start, tmp_path: Path) -> None:
    """What systemd would be told, heard on a socket in the abstract name space."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0lagkvd-test-{os.getpid()}")
        manager.settimeout(30)
        environment = {"HOME": str(tmp_path), "NOTIFY_SOCKET": f"@lagkvd-test-{os.getpid()}", "WATCHDOG_USEC": "200000"}
        process = subprocess.Popen([str(binary()), *places(tmp_path)], env=environment, stderr=subprocess.DEVNULL)
        heard: list[str] = []

        def hear(what: str) -> None:
            while not any(line.startswith(what) for line in heard):
                heard.extend(manager.recv(4096).decode().splitlines())

        hear("READY=1")
        heard.clear()
        hear("WATCHDOG=1")
        process.send_signal(signal.SIGHUP)
        hear("RELOADING=1")
        hear("MONOTONIC_USEC=")
        hear("READY=1")
        process.terminate()
        hear("STOPPING=1")
        assert process.wait(timeout=60) == 0


def wait_for(daemon: Daemon, line: str) -> None:
    deadline = time.monotonic() + 30
    while line not in daemon.log():
        assert time.monotonic() < deadline, f"no “{line}” in the log:\n{daemon.log()}"
        time.sleep(0.01)
