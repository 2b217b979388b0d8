"""A machine of namespaces that boots a real systemd from a Debian root, without a container runtime."""

import os
import shutil
import subprocess
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
ROOT = REPOSITORY / ".cache" / "systemd-root"

PACKAGES = "systemd,systemd-sysv,dbus,liburing2,libzstd1"

# Runs in a mount namespace of its own. The machine gets a cgroup below ours, then everything that a system expects to be
# mounted, then /sbin/init.
BOOT = r"""
set -e
root=$1
mount --bind "$root" "$root"
mkdir -p "$root/sys/fs/cgroup"
mount -t tmpfs tmpfs "$root/tmp"
mount -t cgroup2 cgroup2 "$root/tmp"
group=$root/tmp/lagkvd-boot-$$
mkdir "$group"
echo $$ > "$group/cgroup.procs"
umount "$root/tmp"
exec unshare --pid --fork --kill-child --cgroup --uts --ipc bash -ec '
    root=$1
    mount -t proc proc "$root/proc"
    # The kernel settings are those of the whole machine: the booted system must not change them.
    mount --bind -o ro "$root/proc/sys" "$root/proc/sys"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    mount -t tmpfs -o mode=755 tmpfs "$root/run"
    mount -t tmpfs -o mode=755 tmpfs "$root/dev"
    for device in null zero full random urandom tty; do
        touch "$root/dev/$device"
        mount --bind "/dev/$device" "$root/dev/$device"
    done
    ln -s /proc/self/fd "$root/dev/fd"
    ln -s pts/ptmx "$root/dev/ptmx"
    mkdir "$root/dev/shm"
    mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
    # Not chroot alone: systemd makes the mount namespaces of services from what is the real root.
    cd "$root"
    pivot_root . .
    umount -l .
    exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . /sbin/init
' init "$root"
"""


def why_not() -> str | None:
    """Why no machine can be booted here, or None."""
    if os.geteuid() != 0:
        return "booting a systemd needs root"
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        return "booting a systemd needs unshare and nsenter (util-linux)"
    probe = ["unshare", "--mount", "--pid", "--fork", "--cgroup", "--uts", "--ipc", "sh", "-c"]
    probe.append(f"mount -t tmpfs tmpfs {REPOSITORY}/systemd && mount -t cgroup2 cgroup2 {REPOSITORY}/systemd")
    tried = subprocess.run(probe, capture_output=True, text=True)
    if tried.returncode != 0:
        return f"namespaces or their mounts are forbidden here: {tried.stderr.strip()}"
    if not is_built() and shutil.which("debootstrap") is None:
        return "the root of a Debian system is made with debootstrap, which is not installed"
    return None


def is_built() -> bool:
    return (ROOT / "sbin/init").exists() and not (ROOT / "debootstrap").exists()


def build_root() -> None:
    """Makes the root once; later runs use it again."""
    if is_built():
        return
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.parent.mkdir(exist_ok=True)
    subprocess.run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", ROOT], check=True)


def install() -> None:
    """Installs what was built last, as an administrator would, on a system that has never seen it."""
    for leftover in "var/lib/lagkvd", "etc/lagkvd", "usr/lib/lagkvd", "var/log/journal":
        shutil.rmtree(ROOT / leftover, ignore_errors=True)
    (ROOT / "etc/systemd/system/sockets.target.wants/lagkvd.socket").unlink(missing_ok=True)
    for user in "ada", "grace":
        subprocess.run(["userdel", "--root", ROOT, user], capture_output=True)
    subprocess.run([REPOSITORY / "systemd/install", ROOT], check=True)


class Machine:
    """A booted system. `run` runs a command inside; `path` reaches its files from outside."""

    def __init__(self) -> None:
        self.boot()

    def boot(self) -> None:
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "bash", "-c", BOOT, "boot", ROOT],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        self.init = self._find_init()
        state = self.run("systemctl", "is-system-running", "--wait", check=False).stdout.strip()
        assert state in ("running", "degraded"), f"the system did not boot: {state}"

    def _find_init(self) -> int:
        """The process that is number 1 inside: the only child of the unshare that our bash has become."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"the boot script ended with status {self.process.returncode}"
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            # The bus's socket is there when systemctl can talk to the manager.
            if children and Path(f"/proc/{children[0]}/root/run/systemd/private").exists():
                return int(children[0])
            time.sleep(0.05)
        raise TimeoutError("no systemd after 30 seconds")

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess:
        enter = ["nsenter", "-t", str(self.init), "-m", "-p", "-i", "-u", "-C"]
        done = subprocess.run([*enter, *command], capture_output=True, text=True, timeout=120)
        if check and done.returncode != 0:
            said = f"{done.stdout}{done.stderr}\n{self.journal()}"
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}\n{said}")
        return done

    def journal(self, *options: str) -> str:
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", "lagkvd.service", *options, check=False).stdout

    def property(self, name: str, unit: str = "lagkvd.service") -> str:
        return self.run("systemctl", "show", "--value", "-p", name, unit).stdout.strip()

    def path(self, inside: str) -> Path:
        return Path(f"/proc/{self.init}/root{inside}")

    def reboot(self) -> None:
        self.stop()
        self.boot()

    def stop(self) -> None:
        # Number 1 of a PID namespace takes everything in it along.
        if self.process.poll() is None:
            os.kill(self.init, 9)
            self.process.wait(timeout=30)


if __name__ == "__main__":
    if reason := why_not():
        print(f"No root is made: {reason}")
    else:
        build_root()
