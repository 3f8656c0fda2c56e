"""A PostgreSQL server of the tests' own, on a free port, from Debian's package."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any


def programs() -> Path | None:
    """The folder of the newest server's programs; None without one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parent.parent.name))
    if found:
        return found[-1].parent
    named = shutil.which("initdb")
    return Path(named).resolve().parent if named else None


class Server:
    """A server that can be stopped and started again, its data kept."""

    def __init__(self) -> None:
        self._programs = programs()
        self._as: dict[str, Any] = {}
        self.folder = Path(tempfile.mkdtemp(prefix="kilonet-postgres-"))
        if os.getuid() == 0:  # a server refuses to run as root
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        made = ["-D", str(self.folder / "data"), "-U", "kilonet", "-A", "trust", "--no-sync"]
        self._run("initdb", *made)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://kilonet:s3cret@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = [f"-p{self.port}", "-h127.0.0.1", f"-k{self.folder}", "-cfsync=off"]
        command = [str(self._path("postgres")), f"-D{self.folder / 'data'}", *options]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, **self._as)
        until = time.monotonic() + 60
        while not self._answers():
            assert time.monotonic() < until, (self.folder / "log").read_text()
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop at once, as a power cut would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(60)
            self._process = None

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            self._run("psql", "-h127.0.0.1", f"-p{self.port}", "-Ukilonet", "-c", "select 1", "postgres")
        except subprocess.CalledProcessError:
            return False
        return True

    def _path(self, name: str) -> Path:
        assert self._programs is not None
        return self._programs / name

    def _run(self, name: str, *words: str) -> None:
        command = [str(self._path(name)), *words]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, timeout=120, **self._as)
