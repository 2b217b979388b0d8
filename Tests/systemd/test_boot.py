"""lagkvd under a real systemd: installed, activated, attached to, reloaded, restarted, stopped, killed.

The tests are one story, told in order: each goes on where the one before ended.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import machine as machines
import pytest

sys.path.insert(0, str(machines.REPOSITORY / "Sources/python"))
numpy = pytest.importorskip("numpy", reason="the Python client needs numpy")
import lagkv  # noqa: E402

LAYERS, HEADS, DIM = 4, 2, 64
SHAPE = dict(layers=LAYERS, kv_heads=HEADS, key_dim=DIM, dtype="bfloat16", capacity=8192, sink=16, lag=128, keep_ratio=0.25)
SEED = 20250404


@pytest.fixture(scope="module")
def machine() -> Iterator[machines.Machine]:
    if reason := machines.why_not():
        pytest.skip(reason)
    if not (machines.REPOSITORY / ".build/release/lagkvd").exists():
        pytest.fail("there is no release build: swift build -c release")
    machines.build_root()
    machines.install()
    booted = machines.Machine()
    yield booted
    booted.stop()


class Story:
    """What was appended so far to the one session, and how to reach it."""

    def __init__(self, machine: machines.Machine) -> None:
        self.machine = machine
        self.random = numpy.random.default_rng(SEED)
        self.keys = numpy.zeros((LAYERS, HEADS, 0, DIM), dtype="uint16")
        self.values = self.keys

    def connect(self) -> lagkv.Client:
        return lagkv.connect(self.machine.path("/run/lagkvd/lagkvd.sock"), timeout=60)

    def append(self, session: lagkv.Session, tokens: int) -> None:
        # Finite bfloat16: no exponent of ones.
        new = self.random.integers(0, 0x7F80, (2, LAYERS, HEADS, tokens, DIM), dtype="uint16")
        session.append(new[0], new[1])
        self.keys = numpy.concatenate([self.keys, new[0]], axis=2)
        self.values = numpy.concatenate([self.values, new[1]], axis=2)

    def check(self, session: lagkv.Session) -> None:
        """Every token is there, bit for bit."""
        assert session.tokens == self.keys.shape[2]
        for layer in range(LAYERS):
            keys, values = session.full(layer)
            assert numpy.array_equal(keys.view("uint16"), self.keys[layer]), f"keys of layer {layer} (seed {SEED})"
            assert numpy.array_equal(values.view("uint16"), self.values[layer]), f"values of layer {layer} (seed {SEED})"


@pytest.fixture(scope="module")
def story(machine: machines.Machine) -> Story:
    return Story(machine)


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not after {seconds} seconds"
        time.sleep(0.05)


def configure(machine: machines.Machine, text: str) -> None:
    machine.path("/etc/lagkvd/lagkvd.conf").write_text(text)


def test_the_socket_is_there_before_the_daemon(machine: machines.Machine) -> None:
    machine.run("systemctl", "enable", "--now", "lagkvd.socket")
    assert machine.property("ActiveState", "lagkvd.socket") == "active"
    assert machine.property("ActiveState") == "inactive"
    socket = machine.path("/run/lagkvd/lagkvd.sock").stat()
    assert socket.st_mode & 0o777 == 0o660
    assert machine.run("stat", "-c", "%U:%G", "/run/lagkvd/lagkvd.sock").stdout.strip() == "lagkvd:lagkvd"


def test_connecting_starts_the_daemon(machine: machines.Machine, story: Story) -> None:
    with story.connect() as client:
        assert client.sessions() == []
    assert machine.property("ActiveState") == "active"
    assert machine.property("User") == "lagkvd"
    assert machine.run("stat", "-c", "%U %a", "/var/lib/lagkvd").stdout.strip() == "lagkvd 700"


def test_a_session_is_attached_to_and_filled(story: Story) -> None:
    with story.connect() as client, client.create("chat", **SHAPE) as session:
        for tokens in (1000, 1, 300, 77):
            story.append(session, tokens)
        assert session.sealed_chunks > 0
        story.check(session)


def test_only_the_group_may_connect(machine: machines.Machine) -> None:
    machine.run("useradd", "ada")
    machine.run("useradd", "-G", "lagkvd", "grace")
    refused = machine.run("runuser", "-u", "ada", "--", "lagkvctl", "session", "list", check=False)
    assert refused.returncode != 0 and "EACCES" in refused.stderr
    # A member may connect, and sees nothing of another user's.
    assert "chat" not in machine.run("runuser", "-u", "grace", "--", "lagkvctl", "session", "list").stdout
    assert "chat" in machine.run("lagkvctl", "session", "list").stdout


def test_a_reload_applies_the_file(machine: machines.Machine, story: Story) -> None:
    pid = machine.property("MainPID")
    configure(machine, "memory-budget = 333MiB\nworkers = 7\n")
    machine.run("systemctl", "reload", "lagkvd")
    with story.connect() as client:
        wait_until(lambda: client.status()["memory_budget_bytes"] == str(333 << 20), "the new budget")
    wait_until(lambda: machine.property("ActiveState") == "active", "ready again")
    assert machine.property("MainPID") == pid
    assert "at the next start: workers = 7" in machine.journal()


def test_a_bad_file_is_refused_and_the_daemon_goes_on(machine: machines.Machine, story: Story) -> None:
    configure(machine, "memory-bugdet = 1GiB\n")
    assert machine.run("systemctl", "reload", "lagkvd", check=False).returncode != 0
    said = "/etc/lagkvd/lagkvd.conf:1: unknown key; seen: “memory-bugdet”; expected: perhaps “memory-budget”"
    assert said in machine.journal()
    with story.connect() as client:
        assert client.status()["memory_budget_bytes"] == str(333 << 20)
    configure(machine, "")


def test_a_session_survives_a_restart(machine: machines.Machine, story: Story) -> None:
    machine.run("systemctl", "restart", "lagkvd")
    with story.connect() as client, client.open("chat", write=True) as session:
        story.check(session)
        story.append(session, 200)


def test_a_clean_stop_makes_every_window_durable(machine: machines.Machine, story: Story) -> None:
    # The window is published but nobody has asked for it to be written.
    client = story.connect()
    session = client.open("chat", write=True)
    story.append(session, 3)
    machine.run("systemctl", "stop", "lagkvd.service")
    assert machine.property("Result") == "success"
    assert machine.property("ExecMainStatus") == "0"
    assert "every session is durable" in machine.journal()
    client.close()
    # The socket is systemd's and stays: the next client starts the daemon again.
    with story.connect() as client, client.open("chat", write=True) as session:
        assert client.show("chat").durable_tokens == story.keys.shape[2]
        story.check(session)


def test_systemd_holds_the_memory_of_resident_sessions(machine: machines.Machine, story: Story) -> None:
    with story.connect() as client:
        with client.open("chat", write=True):
            assert machine.property("NFileDescriptorStore") == "2"
        client.suspend("chat")
        wait_until(lambda: machine.property("NFileDescriptorStore") == "0", "letting go")


def test_kill_9_loses_no_window(machine: machines.Machine, story: Story) -> None:
    client = story.connect()
    session = client.open("chat", write=True)
    story.append(session, 500)
    session.sync()
    # These are published, and nobody has asked for them to be written; the engine goes on while there is no daemon.
    story.append(session, 3)
    assert client.show("chat").durable_tokens < story.keys.shape[2]
    before = machine.property("MainPID")
    machine.run("systemctl", "kill", "--signal=SIGKILL", "--kill-whom=main", "lagkvd")
    story.append(session, 2)
    wait_until(lambda: machine.property("MainPID") not in (before, "0"), "a new daemon")
    wait_until(lambda: machine.property("ActiveState") == "active", "readiness")
    assert machine.property("NRestarts") == "1"
    client.close()
    with story.connect() as client:
        assert client.show("chat").durable_tokens == story.keys.shape[2]
        assert machine.property("NFileDescriptorStore") == "0"
        with client.open("chat", write=True) as session:
            story.check(session)
            story.append(session, 300)
            story.check(session)


def test_a_daemon_that_hangs_is_replaced(machine: machines.Machine, story: Story) -> None:
    drop_in = machine.path("/run/systemd/system/lagkvd.service.d")
    drop_in.mkdir(parents=True)
    (drop_in / "watchdog.conf").write_text("[Service]\nWatchdogSec=2s\nWatchdogSignal=SIGKILL\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "lagkvd")
    # Busy or idle, it answers in time.
    time.sleep(4)
    before = machine.property("MainPID")
    assert machine.property("NRestarts") == "0"
    with story.connect() as client, client.open("chat", write=True) as session:
        story.append(session, 1)
    machine.run("systemctl", "kill", "--signal=SIGSTOP", "--kill-whom=main", "lagkvd")
    wait_until(lambda: machine.property("NRestarts") == "1" and machine.property("ActiveState") == "active", "the watchdog")
    assert machine.property("MainPID") != before
    with story.connect() as client, client.open("chat") as session:
        story.check(session)


def test_a_second_boot_finds_the_session(machine: machines.Machine, story: Story) -> None:
    machine.run("systemctl", "stop", "lagkvd.service")
    # The journal took the priorities off the lines, and knows them.
    notices = machine.run("journalctl", "-o", "cat", "-p", "notice", "_COMM=lagkvd").stdout
    assert "every session is durable" in notices and "<" not in notices and "budgets: " not in notices
    machine.reboot()
    assert machine.property("ActiveState") == "inactive"
    with story.connect() as client, client.open("chat", write=True) as session:
        story.check(session)
        session.close()
        client.delete("chat")


def test_the_daemon_had_nothing_to_complain_of(machine: machines.Machine) -> None:
    """A call that the unit forbids, or a thing that is missing, would have been logged as a warning."""
    complaints = machine.run("journalctl", "-q", "-o", "cat", "-p", "warning", "_COMM=lagkvd").stdout
    assert complaints == ""


def test_without_io_uring_it_says_so_and_is_not_started_again(machine: machines.Machine) -> None:
    drop_in = machine.path("/run/systemd/system/lagkvd.service.d")
    drop_in.mkdir(parents=True)
    (drop_in / "no-ring.conf").write_text("[Service]\nSystemCallFilter=~io_uring_setup\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "lagkvd", check=False)
    wait_until(lambda: machine.property("ActiveState") == "failed", "the failure")
    assert (machine.property("ExecMainStatus"), machine.property("NRestarts")) == ("71", "0")
    assert "a seccomp filter forbids it" in machine.journal("-p", "crit")
