"""Slots are done once each, whoever tries and whoever dies; SQLite with several connections."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import OperationalError

from kilonet.errors import ConfigError, RunError
from kilonet.sweep import database
from kilonet.sweep import ledger as attempts
from kilonet.sweep.database import AwayError, Database, sqlite_url
from kilonet.sweep.ledger import DONE, Ledger, identifier, slot_of
from sweep.making import ends_and_losses

RESULT = {"wrong": None, "loss": 0.5}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return sqlite_url(tmp_path / "study.db")


def ledger(url: str) -> Ledger:
    return Ledger(Database(url, patience=20), "sweep")


def finished(url: str) -> Counter[int]:
    return Counter(slot_of(trial) for trial in ledger(url).trials() if trial.state in DONE)


def begun(of: Ledger, slot: int) -> FrozenTrial:
    attempt = of.begin(slot)
    assert attempt is not None
    return attempt


def test_many_at_once_do_each_slot_once_though_some_give_up_and_some_are_taken_for_dead(url: str) -> None:
    ledger(url)
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        own, drawn = ledger(url), random.Random(seed)
        try:
            while (slot := own.standing().open(12)) is not None:
                attempt = own.begin(slot)
                if attempt is None:
                    continue
                fate = drawn.random()
                if fate < 0.2:
                    own.put_down(attempt, "interrupted")
                    continue
                if fate < 0.4:  # another judges it lost, while it still works
                    own.database.rdb.set_trial_state_values(identifier(attempt), TrialState.FAIL)
                assert own.finish(identifier(attempt), TrialState.COMPLETE, 0.5, RESULT) == (fate >= 0.4)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert finished(url) == dict.fromkeys(range(12), 1)


def test_of_two_attempts_at_a_slot_the_first_goes_on(url: str) -> None:
    one, other = ledger(url), ledger(url)
    first = begun(one, 3)
    assert other.begin(3) is None
    assert [trial.state for trial in one.trials()] == [TrialState.RUNNING, TrialState.FAIL]
    assert one.standing().lost[3] == 0
    one.put_down(first, "interrupted")
    assert other.standing().open(4) == 0
    assert slot_of(begun(other, 3)) == 3


def test_an_attempt_whose_process_is_gone_is_open_again_at_once(url: str) -> None:
    code = (
        "import os, sys\nfrom kilonet.sweep.database import Database\nfrom kilonet.sweep.ledger import Ledger\n"
        "Ledger(Database(sys.argv[1]), 'sweep').begin(0, {'lr': 0.25})\nos._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, url], check=True, timeout=60)
    ours = ledger(url)
    alive = begun(ours, 1)
    running = ours.standing().running
    assert sorted(running) == [0, 1]
    ours.recover(list(running.values()))
    standing = ours.standing()
    assert (sorted(standing.running), standing.lost[0]) == ([1], 1)
    assert identifier(standing.running[1]) == identifier(alive)


@pytest.mark.parametrize("beaten", [True, False])
def test_an_attempt_elsewhere_is_lost_when_it_gave_no_sign_of_life_for_long(
    url: str, monkeypatch: pytest.MonkeyPatch, beaten: bool
) -> None:
    monkeypatch.setattr(database, "GRACE", 1)
    monkeypatch.setattr(database, "BEAT", 1)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(attempts, "MACHINE", "another")
        if not beaten:  # killed between the transaction that makes it and its first sign of life
            elsewhere.setattr(optuna.storages.RDBStorage, "record_heartbeat", lambda *_: None)
        begun(ledger(url), 0)
    time.sleep(2.5)
    ours = ledger(url)
    ours.recover(list(ours.standing().running.values()))
    assert list(ours.standing().running) == [0]  # whoever has just come judges nobody
    until = time.monotonic() + 20
    while (running := list(ours.standing().running.values())) and time.monotonic() < until:
        ours.recover(running)
        time.sleep(0.2)
    assert ours.standing().open(1) == 0
    assert ours.standing().lost[0] == 0


def test_an_attempt_that_gives_signs_of_life_is_not_lost(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "GRACE", 2)
    monkeypatch.setattr(database, "BEAT", 1)
    monkeypatch.setattr(attempts, "MACHINE", "another")
    theirs = ledger(url)
    attempt = begun(theirs, 0)
    monkeypatch.setattr(attempts, "MACHINE", "this")
    ours = ledger(url)
    with theirs.beating(attempt):
        for _ in range(8):
            time.sleep(0.5)
            ours.recover(list(ours.standing().running.values()))
    assert list(ours.standing().running) == [0]


def test_a_result_whose_answer_was_lost_is_not_told_twice(url: str) -> None:
    ours = ledger(url)
    attempt = begun(ours, 0)
    assert ours.finish(identifier(attempt), TrialState.COMPLETE, 0.5, RESULT)
    assert ours.finish(identifier(attempt), TrialState.COMPLETE, 0.5, RESULT)
    assert finished(url) == {0: 1}


def test_of_an_end_and_a_loss_at_the_same_moment_one_is_true(url: str) -> None:
    assert ends_and_losses(lambda: ledger(url)) == [True] * 40


def test_the_first_note_stands(url: str) -> None:
    assert ledger(url).note({"a": 1}) == {"a": 1}
    assert ledger(url).note({"a": 2}) == {"a": 1}
    assert Ledger.peek(Database(url), "sweep") == {"a": 1}
    assert Ledger.peek(Database(url), "another") is None
    assert ledger(url).standing().open(1) == 0


def away(*_: object) -> None:
    raise OperationalError("select", {}, Exception("connection refused, user kilonet, password s3cret\nand more"))


def test_a_database_that_is_away_is_waited_for(url: str) -> None:
    said: list[str] = []
    ours = Database(url, said.append, patience=20)
    left = iter([away] * 5)
    assert ours.ask(lambda: next(left, lambda: 7)()) == 7
    assert len(said) == 1
    assert "is away, and tried again for 20 s: connection refused" in said[0]
    assert time.monotonic() - ours.steady < 10


def test_one_that_stays_away_is_given_up_in_one_line_without_its_password(url: str) -> None:
    ours = Database(url, patience=0.3)
    ours._url = ours._url.set(password="s3cret")
    with pytest.raises(AwayError) as refused:
        ours.ask(away)
    assert "has been away for 0 s: connection refused, user kilonet, password ***" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_full_disk_is_no_matter_of_patience(url: str) -> None:
    def full() -> None:
        raise OperationalError("insert", {}, Exception("database or disk is full"))

    ours = Database(url)
    start = time.monotonic()
    with pytest.raises(RunError, match="no room in sqlite:") as refused:
        ours.ask(full)
    assert not isinstance(refused.value, AwayError)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("here", "is no URL"),
        ("mysql://a@b/c", "expected postgresql: or sqlite:"),
        ("redis://a", "expected postgresql: or sqlite:"),
    ],
)
def test_other_urls_are_refused(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Database(text)


def test_a_password_is_not_shown() -> None:
    shown = database.shown("postgresql+psycopg://kilonet:s3cret@host:1/db?password=s3cret&sslmode=require")
    assert "s3cret" not in shown
    assert shown.startswith("postgresql://kilonet:***@host:1/db?")
    assert "sslmode=require" in shown


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_bytes(b"no database at all, but long enough to be looked at" * 20)
    with pytest.raises(RunError, match="not a database"):
        Database(sqlite_url(tmp_path / "study.db"), patience=20)
