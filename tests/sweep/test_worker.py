"""What a worker makes of its trials: scores, ends and mishaps."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

import kilonet as kn
from kilonet.errors import Interrupted, ModelError, RunError
from kilonet.history import Epoch
from kilonet.images import ImageSet
from kilonet.sweep import database, sampling, scoring, sweeping, winner, worker
from kilonet.sweep.database import AwayError, Database
from kilonet.sweep.ledger import Ledger, identifier
from kilonet.sweep.scoring import EndedEarlyError, score
from kilonet.sweep.unsent import Outcome
from sweep.making import OWN, alone, begun, standing, work

pytestmark = pytest.mark.usefixtures("alone")
__all__ = ["alone"]


def test_a_trial_is_scored_as_fit_scores_it_on_one_split_for_all_its_seeds(tmp_path: Path) -> None:
    sweep = begun(tmp_path, "lr=0.01,0.05", seeds=2, training={"epochs": 3, "seed": 5})
    done = work(sweep, 2).done
    assert sorted(trial.params["lr"] for trial in done.values()) == [0.01, 0.05]
    data = kn.load("digits").split(seed=5)
    for trial in done.values():
        wanted = []
        for seed in (5, 6):
            model = kn.build("linear", data.train, seed=seed)
            training = kn.recipe("linear", epochs=3, seed=seed, lr=trial.params["lr"], threads=1)
            wanted.append(kn.fit(model, data, training).best.val_accuracy or 0.0)
        result = trial.user_attrs["result"]
        assert result["accuracies"] == wanted
        assert trial.value == pytest.approx(fmean(wanted), abs=1e-12)
        assert (result["seeds"], result["epochs"], result["parameters"]) == ([5, 6], 3, 650)


def test_no_trial_looks_at_the_test_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = begun(tmp_path, "lr=0.01,0.05")
    whole = worker.load(sweep.spec, "digits")

    class Forbidden:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"a trial looked at the test part's {name}")

    assert isinstance(whole.test, ImageSet)
    object.__setattr__(whole, "test", Forbidden())
    monkeypatch.setattr(worker, "load", lambda *_: whole)
    done = work(sweep, 2).done
    assert [trial.user_attrs["result"]["wrong"] for trial in done.values()] == [None, None]


def test_one_process_draws_the_same_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "STARTUP", 3)

    def values(project: Path) -> list[dict[str, Any]]:
        done = work(begun(project, "lr=1e-4..1e-1:log", "batch-size=16,32"), 6).done
        return [done[slot].params for slot in range(6)]

    one = values(tmp_path / "one")
    assert one == values(tmp_path / "two")
    assert len({str(drawn) for drawn in one}) == 6


def test_a_training_that_diverges_and_a_model_that_fails_are_results_and_not_tried_again(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n\nclass Net(nn.Linear):\n    calls = 0\n    def __init__(self):\n"
        "        super().__init__(64, 10)\n    def forward(self, x):\n        Net.calls += 1\n"
        "        if len(x) == 32:\n            raise ValueError('no 32')\n"
        "        return super().forward(x.flatten(1))\n"
    )
    own = f"{tmp_path}/net.py:Net"
    sweep = begun(
        tmp_path, "lr=0.01,1e38", "batch-size=32,64", f"model={own}", training={"epochs": 2, "optimizer": "sgd"}
    )
    found = {
        tuple(trial.params.values()): trial.user_attrs["result"]["wrong"] for trial in work(sweep, 4).done.values()
    }
    assert found[32, 0.01, "net.py:Net"] == found[32, 1e38, "net.py:Net"] == "ValueError: no 32"
    assert found[64, 0.01, "net.py:Net"] is None
    assert "went wrong in" in found[64, 1e38, "net.py:Net"]
    best = standing(sweep).best()
    assert best is not None
    assert best.params["lr"] == 0.01
    scores = sorted(trial.value or 0 for trial in standing(sweep).done.values())
    assert scores[:3] == [0.0] * 3 < [scores[3]]


def test_a_sweep_in_which_all_goes_wrong_says_so(tmp_path: Path) -> None:
    sweep = begun(tmp_path, "lr=1e37,1e38", training={"epochs": 2, "optimizer": "sgd"})
    work(sweep, 2)
    with pytest.raises(RunError, match="every trial of s went wrong, such as: the training went wrong in epoch"):
        sweeping.finished(sweep)


def test_a_trial_that_ends_processes_again_and_again_goes_wrong(tmp_path: Path) -> None:
    sweep = begun(tmp_path, "lr=0.01,0.05")
    ledger = Ledger(Database(sweep.url), "s")
    for _ in range(worker.MOST_LOST):
        attempt = ledger.begin(0)
        assert attempt is not None
        ledger.database.rdb.set_trial_user_attr(identifier(attempt), "died", True)
        ledger.database.rdb.set_trial_state_values(identifier(attempt), TrialState.FAIL)
    done = work(sweep, 2).done
    assert done[0].user_attrs["result"]["wrong"] == f"{worker.MOST_LOST} processes ended with it"
    assert done[1].user_attrs["result"]["wrong"] is None


def test_a_model_s_file_that_changes_meanwhile_is_not_trained(tmp_path: Path) -> None:
    own = tmp_path / "net.py"
    own.write_text(OWN.format("nn.Flatten(), nn.Linear(64, 10)"))
    sweep = begun(tmp_path, "lr=0.01,0.05", model=f"{own}:Net")
    assert len(work(sweep, 1).done) == 1
    own.write_text(OWN.format("nn.Flatten(), nn.ReLU(), nn.Linear(64, 10)"))
    with pytest.raises(ModelError, match="is another file than the one that the sweep began with"):
        work(sweep, 2)
    with pytest.raises(ModelError, match="is another file"):
        winner.measure(sweep, standing(sweep), lambda _: None)
    assert (len(standing(sweep).done), standing(sweep).lost[1]) == (1, 0)


def test_an_interrupted_trial_is_open_again_with_its_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = begun(tmp_path, "lr=1e-4..1e-1:log")

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(worker, "score", interrupted)
        with pytest.raises(Interrupted) as stopped:
            work(sweep, 3)
    assert stopped.value.hint == f"go on: kilonet sweep --name s --project {tmp_path}"
    before = standing(sweep)
    assert (before.done, before.running, before.lost[0]) == ({}, {}, 0)
    after = work(sweep, 3)
    assert sorted(after.done) == [0, 1, 2]
    assert after.done[0].params == before.former[0].params


def test_after_its_time_no_trial_is_begun(tmp_path: Path) -> None:
    sweep = begun(tmp_path, "lr=1e-4..1e-1:log", training={"epochs": 20})
    first = len(work(sweep, 1000, seconds=1).done)
    assert 1 <= first < 1000
    assert first < len(work(sweep, 1000, seconds=1).done) < 1000


def test_reports_come_by_tens_of_percent_of_the_whole_and_can_end_a_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = begun(tmp_path, "lr=0.01", seeds=2, training={"epochs": 7})
    accuracies = iter([0.1, 0.5, 0.3, 0.6, 0.6, 0.6, 0.7] * 2)

    def epochs(*_: Any) -> Any:
        yield from (Epoch(n + 1, 1.0, 1.0, next(accuracies), 0.1, 0.1) for n in range(7))

    monkeypatch.setattr(scoring, "epochs", epochs)
    told: list[tuple[int, float]] = []
    config, splits = sweep.spec.first, worker.load(sweep.spec, "digits")
    score(config, "linear", splits, lambda percent, value: told.append((percent, round(value, 6))))
    # (epochs done of 14: 2, 3, 5, 6, 7 | 9, 10, 12, 13; the best so far, and from the second seed on their mean)
    assert told == [(10, 0.5), (20, 0.5), (30, 0.6), (40, 0.6), (50, 0.7),
                    (60, 0.6), (70, 0.6), (80, 0.65), (90, 0.65)]  # fmt: skip

    def end(percent: int, _: float) -> None:
        if percent == 20:
            raise EndedEarlyError

    accuracies = iter([0.1, 0.5, 0.3, 0.6, 0.6, 0.6, 0.7])
    assert score(config, "linear", splits, end).accuracies == [0.5]


def test_poor_trials_are_ended_early_by_the_median(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "STARTUP", 5)
    sweep = begun(tmp_path, "lr=1e-6..1e-1:log", training={"epochs": 5}, pruner="median", sampler="random")
    done = work(sweep, 16).done
    early = [trial for trial in done.values() if trial.state.name == "PRUNED"]
    assert 2 <= len(early) <= 11
    assert all(max(trial.intermediate_values) >= sampling.WARMUP for trial in early)
    assert all(trial.user_attrs["result"]["wrong"] is None for trial in early)
    best = standing(sweep).best()
    assert best is not None
    assert best.state.name == "COMPLETE"


def away(*_: Any, **__: Any) -> None:
    raise OperationalError("update", {}, Exception("connection refused"))


def full(*_: Any, **__: Any) -> None:
    raise OperationalError("update", {}, Exception("database or disk is full"))


def test_a_full_disk_is_one_clear_line_and_no_result_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = begun(tmp_path, "lr=0.01,0.02")
    with monkeypatch.context() as patch:
        patch.setattr(RDBStorage, "set_trial_user_attr", full)
        with pytest.raises(RunError, match=r"no room in sqlite:.*disk is full") as refused:
            work(sweep, 2)
    assert not isinstance(refused.value, AwayError)
    assert len(list((sweep.path / "unsent").iterdir())) == 1
    assert sorted(work(sweep, 2).done) == [0, 1]


def test_a_database_that_goes_away_for_good_loses_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = begun(tmp_path, "lr=0.01,0.02,0.03")
    monkeypatch.setattr(database, "PATIENCE", 0.5)
    with monkeypatch.context() as patch:
        patch.setattr(RDBStorage, "set_trial_user_attr", away)
        with pytest.raises(AwayError, match=r"all trials that ended are in it but 1, kept in .*unsent") as refused:
            work(sweep, 3)
    assert refused.value.hint == f"when it is back, go on: {sweep.again}"
    assert len(list((sweep.path / "unsent").iterdir())) == 1
    said: list[str] = []
    sweeping.work(sweep, 3, None, 1, lambda _: None, said.append)
    assert said == ["kept results: 1 sent, 0 made again meanwhile"]
    after = standing(sweep)
    assert (sorted(after.done), after.former) == ([0, 1, 2], {})
    assert list((sweep.path / "unsent").iterdir()) == []


def test_a_kept_result_of_a_trial_that_was_made_again_is_dropped(tmp_path: Path) -> None:
    sweep = begun(tmp_path, "lr=0.01,0.02")
    unsent = sweep.path / "unsent"
    outcome = Outcome(0, "no such token", False, 0.5, {"lr": 0.01}, {"wrong": None, "loss": 1.0})
    outcome.keep(unsent)
    work(sweep, 2)  # nobody made slot 0: the result fills it
    assert standing(sweep).done[0].value == 0.5
    assert standing(sweep).done[0].params == {"lr": 0.01}
    outcome.keep(unsent)
    said: list[str] = []
    sweeping.work(sweep, 2, None, 1, lambda _: None, said.append)
    assert said == ["kept results: 0 sent, 1 made again meanwhile"]
