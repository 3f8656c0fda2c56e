"""Sweeps on a real PostgreSQL, started here: many machines, killed at some moment; the database away."""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from sqlalchemy import text

from kilonet.errors import RunError
from kilonet.sweep import database, worker
from kilonet.sweep.database import AwayError, Database
from kilonet.sweep.ledger import Ledger, identifier
from kilonet.sweep.scoring import score
from sweep.commands import WORDS, finished, repeated, running, trials, until
from sweep.making import alone, begun, ends_and_losses, standing, work
from sweep.postgres import Server, programs

N = 16
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(programs() is None, reason="PostgreSQL is not there: Debian's package postgresql has it"),
]
__all__ = ["alone"]


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    try:
        made.start()
        yield made
    finally:
        made.close()


def done(url: str) -> int:
    return len(finished(url)) if Ledger.peek(Database(url), "s") is not None else 0


def test_four_machines_do_each_trial_once_though_one_is_killed(server: Server, tmp_path: Path) -> None:
    """The one that is killed has process numbers of its own where that can be, as another machine has."""
    words = (*WORDS, "--trials", str(N), "--workers", "1", "--storage", server.url)
    alone = (
        ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
        if os.getuid() == 0 and shutil.which("unshare")
        else ()
    )
    with ExitStack() as stack:
        victim = stack.enter_context(running(tmp_path / "0", *words, before=alone))
        others = [stack.enter_context(running(tmp_path / f"{number}", *words)) for number in (1, 2, 3)]
        until(lambda: done(server.url) >= 1 and any(t.user_attrs["machine"] for t in trials(server.url)[1:]))
        time.sleep(random.random())
        victim.process.kill()
        victim.process.wait()
        assert [other.ended() for other in others] == [0, 0, 0], [other.said for other in others]
    assert finished(server.url) == dict.fromkeys(range(N), 1)
    assert len(repeated(server.url)) <= 1
    winners = [
        number for number in range(4) if (tmp_path / f"{number}" / "runs" / "s" / "winner" / "metrics.json").exists()
    ]
    assert len(winners) == 1
    assert all((tmp_path / f"{number}" / "runs" / "s" / "winner.toml").exists() for number in (1, 2, 3))
    for number in (1, 2, 3):
        kept = tmp_path / f"{number}"
        assert "s3cret" not in "".join(
            path.read_text() for path in (kept / "out", kept / "err", kept / "runs/s/sweep.toml")
        )


def test_a_database_that_goes_and_comes_back_is_waited_for_and_no_trial_is_repeated(
    server: Server, tmp_path: Path
) -> None:
    with running(tmp_path, *WORDS, "--trials", str(N), "--workers", "2", "--storage", server.url) as command:
        until(lambda: done(server.url) >= 2)
        server.stop()
        time.sleep(6)
        server.start()
        assert command.ended() == 0, command.said
        assert "is away, and tried again for 30 s" in command.said
        assert "Traceback" not in command.said
    assert finished(server.url) == dict.fromkeys(range(N), 1)
    assert repeated(server.url) == []


@pytest.mark.usefixtures("alone")
def test_a_database_that_goes_for_good_is_a_clear_stop_and_its_results_are_sent_later(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PATIENCE", 2.0)
    sweep = begun(tmp_path, "lr=0.01,0.02,0.03", storage=server.url)
    scored = score

    def cut(*words: Any) -> Any:
        result = scored(*words)
        if result.accuracies and len(list(sweep.path.glob("cut"))) == 0:
            (sweep.path / "cut").touch()
            server.stop()
        return result

    monkeypatch.setattr(worker, "score", cut)
    with pytest.raises(
        AwayError, match=r"was away for too long; all trials that ended are in it but 1, kept in"
    ) as gone:
        work(sweep, 3)
    assert "s3cret" not in str(gone.value)
    assert gone.value.hint == f"when it is back, go on: kilonet sweep --name s --project {tmp_path} --storage URL"
    server.start()
    assert sorted(work(sweep, 3).done) == [0, 1, 2]
    assert standing(sweep).former == {}
    assert list((sweep.path / "unsent").iterdir()) == []


@pytest.mark.usefixtures("alone")
def test_a_database_that_is_away_at_the_start_is_waited_for_and_then_a_clear_line(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.stop()
    monkeypatch.setattr(database, "PATIENCE", 2.0)
    with pytest.raises(AwayError, match=r"^postgresql://kilonet:\*\*\*@127.0.0.1:\d+/postgres has been away for 2 s: "):
        begun(tmp_path, "lr=0.01,0.02", storage=server.url)
    assert not (tmp_path / "s").exists()
    monkeypatch.setattr(database, "PATIENCE", 60.0)
    later = threading.Timer(1.5, server.start)
    later.start()
    said: list[str] = []
    Database(server.url, said.append)
    later.join()
    assert len(said) <= 1


def test_a_lock_whose_holder_is_gone_holds_nobody_up_for_long(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a machine leaves it whose link is cut between two statements."""
    for name, seconds in (("IDLE", 2), ("LOCKED", 3)):
        monkeypatch.setattr(database, name, seconds)
    theirs, ours = (Ledger(Database(server.url), "s") for _ in range(2))
    holding = theirs.database.rdb.engine.connect()
    holding.execute(text("LOCK TABLE trials IN ACCESS EXCLUSIVE MODE"))
    start = time.monotonic()
    assert ours.begin(0) is not None
    assert 1 < time.monotonic() - start < 15
    assert theirs.begin(1) is not None


def test_a_database_that_is_not_there_is_refused_at_once(server: Server) -> None:
    start = time.monotonic()
    with pytest.raises(RunError, match=r"can't be used: .*does not exist") as refused:
        Database(server.url.replace("/postgres", "/none"))
    assert not isinstance(refused.value, AwayError)
    assert time.monotonic() - start < 20


def test_of_an_end_and_a_loss_at_the_same_moment_one_is_true(server: Server) -> None:
    assert ends_and_losses(lambda: Ledger(Database(server.url), "s")) == [True] * 40


def test_many_at_once_do_each_slot_once(server: Server) -> None:
    first = Ledger(Database(server.url), "s")

    def fill() -> None:
        own = Ledger(Database(server.url), "s")
        while (slot := own.standing().open(30)) is not None:
            if (attempt := own.begin(slot)) is not None:
                own.finish(identifier(attempt), TrialState.COMPLETE, 0.5, {"wrong": None, "loss": 1.0})

    threads = [threading.Thread(target=fill) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert finished(server.url) == dict.fromkeys(range(30), 1)
    assert first.standing().running == {}
