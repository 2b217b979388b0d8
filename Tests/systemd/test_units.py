"""The units as systemd itself judges them, and as this repository promises them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parents[2] / "systemd"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (Debian's package systemd)")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system with our units, systemd's own, and programs to execute: `verify` looks whether they exist."""
    shutil.copytree("/lib/systemd/system", tmp_path / "usr/lib/systemd/system", symlinks=True)
    for unit in UNITS.glob("lagkvd.so*"), UNITS.glob("lagkvd.service"):
        for file in unit:
            shutil.copy(file, tmp_path / "usr/lib/systemd/system")
    for program in "usr/bin/lagkvd", "bin/sh":
        (tmp_path / program).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("/bin/true", tmp_path / program)
    return tmp_path


def analyze(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)],
        capture_output=True, text=True, env={"SYSTEMD_COLORS": "0", "PATH": "/usr/bin:/bin"})


@needs_systemd
def test_verify_has_nothing_to_say(root: Path) -> None:
    verified = analyze("verify", f"--root={root}", "lagkvd.service", "lagkvd.socket")
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


@needs_systemd
def test_verify_would_have_found_a_mistake(root: Path) -> None:
    unit = root / "usr/lib/systemd/system/lagkvd.service"
    unit.write_text(unit.read_text().replace("UMask=", "UMaks="))
    assert "Unknown key 'UMaks'" in analyze("verify", f"--root={root}", "lagkvd.service").stderr


@needs_systemd
def test_exposure_is_at_most_1_5() -> None:
    judged = analyze("security", "--offline=true", "--threshold=15", UNITS / "lagkvd.service")
    exposure = re.search(r"Overall exposure level for lagkvd.service: ([0-9.]+)", judged.stdout)
    assert exposure, judged.stdout + judged.stderr
    print(f"exposure {exposure[1]}")
    assert judged.returncode == 0 and float(exposure[1]) <= 1.5


def test_every_directive_of_the_service_has_its_reason() -> None:
    """Each directive stands below a comment, or directly below one that does: a reason may be shared by neighbours."""
    section, reasoned = "", False
    for line in (UNITS / "lagkvd.service").read_text().splitlines():
        if line.startswith("["):
            section, reasoned = line, False
        elif line.startswith("#"):
            reasoned = True
        elif not line:
            reasoned = False
        elif section == "[Service]":
            assert reasoned, f"{line} has no reason"
