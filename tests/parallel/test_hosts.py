"""Two hosts, each a network namespace of its own, joined by one cable; it is cut, for a while and for good."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from parallel.launching import HERE, Launch, launched, on_this_host

TRAIN = ("train", "digits", "--model", "kilo-4k", "--epochs", "20", "--save-every", "1")
pytestmark = pytest.mark.full


@dataclass
class Hosts:
    """Namespaces `names`, with the addresses 10.77.0.1 and 10.77.0.2, and the folder of each."""

    names: tuple[str, str]
    folders: tuple[Path, Path]
    port: int = 29400

    def cable(self, state: str) -> None:
        ip("-n", self.names[1], "link", "set", "cable", state)

    @contextmanager
    def launched(self, *words: str, restarts: int = 0) -> Iterator[tuple[Launch, Launch]]:
        """torchrun on both, a rank each, which waits for the other's answer for 12 s; c10d where it restarts them."""
        self.port += 1
        static = ("--master-addr", "10.77.0.1", "--master-port", str(self.port))
        elastic = (
            "--max-restarts",
            str(restarts),
            "--rdzv-backend",
            "c10d",
            "--rdzv-endpoint",
            f"10.77.0.1:{self.port}",
        )
        with ExitStack() as opened:
            launches = []
            for host in (0, 1):
                own = ("--local-addr", f"10.77.0.{host + 1}", "--rdzv-conf", f"is_host={str(host == 0).lower()}")
                how = (*elastic, *own) if restarts else (*static, "--node-rank", str(host))
                task = ("--nnodes", "2", "--nproc-per-node", "1", *how, str(HERE / "faulty.py"), "impatient", *words)
                inside = ("ip", "netns", "exec", self.names[host])
                launches.append(opened.enter_context(launched(*task, folder=self.folders[host], before=inside)))
            yield launches[0], launches[1]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=20)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    if shutil.which("ip") is None or os.getuid() != 0:
        pytest.skip("network namespaces need root, and the command ip of iproute2")
    names = (f"kilonet-{os.getpid()}-0", f"kilonet-{os.getpid()}-1")
    folders = (tmp_path / "here", tmp_path / "there")
    made = []
    try:
        for name, folder in zip(names, folders, strict=True):
            folder.mkdir()
            try:
                ip("netns", "add", name)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"no network namespace can be made here: {error.stderr.decode()[:200]}")
            made.append(name)
        ip("-n", names[0], "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", names[1])
        for number, name in enumerate(names, 1):
            ip("-n", name, "address", "add", f"10.77.0.{number}/24", "dev", "cable")
            for link in ("lo", "cable"):
                ip("-n", name, "link", "set", link, "up")
        yield Hosts(names, folders)
    finally:
        for name in made:
            ip("netns", "delete", name)


def weights(folder: Path) -> bytes:
    """The last ones of the run in a folder."""
    return (folder / "runs" / "train" / "weights" / "last.safetensors").read_bytes()


def epochs_done(folder: Path) -> int:
    path = folder / "runs" / "train" / "results.csv"
    return len(path.read_text().splitlines()) - 1 if path.exists() else 0


def test_a_cable_that_is_cut(hosts: Hosts, tmp_path: Path) -> None:
    """For 4 s: the run goes on. For good: both end within their patience, and resume goes on to the same bits."""
    here, there = hosts.folders
    with hosts.launched(*TRAIN) as (first, second):
        first.until(lambda: epochs_done(here) >= 2)
        hosts.cable("down")
        time.sleep(4)
        hosts.cable("up")
        assert first.wait() == 0, first.said()
        assert second.wait() == 0, second.said()
    assert "parameters, 20 epochs" in first.out.read_text()
    assert second.out.read_text() == ""
    assert [path.name for path in there.iterdir()] == ["0.err", "0.out"]
    (here / "runs").rename(tmp_path / "whole")

    with hosts.launched(*TRAIN) as (first, second):
        first.until(lambda: epochs_done(here) >= 2)
        hosts.cable("down")
        cut = time.monotonic()
        assert first.wait(40) == 1, first.said()
        assert second.wait(40) == 1, second.said()
        assert time.monotonic() - cut < 40
        for number, launch in enumerate((first, second)):
            assert launch.errors() == [f"error: rank {number} of 2 has lost another one: no answer for 12 s"]
            assert "hint: go on: torchrun ... -m kilonet resume runs/train" in launch.said()
    hosts.cable("up")
    with hosts.launched("resume", "train") as (first, second):
        assert first.wait() == 0, first.said()
        assert second.wait() == 0, second.said()
        assert "going on after epoch" in first.said()
    assert not (there / "runs").exists()
    assert weights(here) == (tmp_path / "whole" / "train" / "weights" / "last.safetensors").read_bytes()


def test_a_rank_killed_on_either_host_comes_back(hosts: Hosts, tmp_path: Path) -> None:
    here, there = hosts.folders
    with launched(*on_this_host(2, "-m", "kilonet", *TRAIN), folder=tmp_path) as whole:
        assert whole.wait() == 0, whole.said()
    with hosts.launched(*TRAIN, restarts=3) as both:
        for rank, epochs in ((1, 2), (0, 8)):
            both[0].until(lambda: epochs_done(here) >= epochs)  # noqa: B023
            (killed,) = both[rank].ranks().values()
            os.kill(killed, signal.SIGKILL)
            both[rank].until(lambda: killed not in both[rank].ranks().values())  # noqa: B023
        assert both[0].wait() == 0, both[0].said()
        assert both[1].wait() == 0, both[1].said()
    assert [path.name for path in (here / "runs").iterdir()] == ["train"]
    assert not (there / "runs").exists()
    assert weights(here) == weights(tmp_path)
