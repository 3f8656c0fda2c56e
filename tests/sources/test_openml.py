from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.datasets import fetch_openml

import kilonet as kn
from kilonet.sources import cache, openml
from openml_server import DOWNLOAD, Kind, Table, redirected, serving

if TYPE_CHECKING:
    from numpy.typing import NDArray

API = "/api/v1/json/data/"


@pytest.fixture
def homes(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Kilonet's cache, scikit-learn's and the temporary folder, all empty, and no other place with data."""
    folders = [own_cache, tmp_path / "scikit-learn", tmp_path / "temporary"]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(folders[1]))
    monkeypatch.setattr("tempfile.tempdir", str(folders[2]))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KILONET_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return folders


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """One further try at once, and a short patience; scikit-learn takes no fewer tries."""
    monkeypatch.setattr(openml, "RETRIES", 1)
    monkeypatch.setattr(openml, "TIMEOUT", 0.3)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


@pytest.fixture(scope="session")
def small(mnist_5k: kn.ImageSet) -> Table:
    rows = np.arange(0, 5000, 25)
    return _table(mnist_5k.images[rows], mnist_5k.labels[rows])


def _table(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Table:
    return Table(554, "mnist_784", images.reshape(len(images), -1), [str(label) for label in labels])


def _fetch_with_scikit_learn(**asked: Any) -> Any:
    return fetch_openml(**asked, as_frame=False, parser="auto", read_csv_kwargs={"dtype": None})


def _files(folders: list[Path]) -> list[Path]:
    return [file for folder in folders for file in folder.rglob("*") if file.is_file() and file.suffix != ".lock"]


@pytest.mark.parametrize("source", ["openml:mnist_784", "openml:MNIST_784", "openml:554"])
def test_loads_by_name_and_by_number(source: str, small: Table, homes: list[Path]) -> None:
    with serving(small):
        data = kn.load(source)
    assert data.shape == (1, 28, 28)
    assert data.classes == tuple("0123456789")
    assert np.array_equal(data.pixels.reshape(200, -1), small.pixels)
    assert [str(label) for label in data.labels] == small.labels


def test_the_second_load_asks_nobody(small: Table, homes: list[Path]) -> None:
    with serving(small) as server:
        first = kn.load("openml:mnist_784")
        asked = len(server.asked)
        second = kn.load("openml:mnist_784")
        assert len(server.asked) == asked == 5
    assert first.sha256() == second.sha256()
    assert isinstance(second.images, np.memmap)
    assert _files(homes[1:]) == []


@pytest.mark.parametrize("asked", [{"name": "mnist_784"}, {"data_id": 554}])
def test_what_scikit_learn_has_is_used_and_left_alone(asked: dict[str, Any], small: Table, homes: list[Path]) -> None:
    with serving(small) as server:
        _fetch_with_scikit_learn(**asked)
        before = _files(homes[1:])
        times = [file.stat().st_mtime_ns for file in before]
        server.asked.clear()
        data = kn.load(f"openml:{next(iter(asked.values()))}")
        assert server.asked == []
    assert len(data) == 200
    assert _files(homes[1:]) == before
    assert [file.stat().st_mtime_ns for file in before] == times


def test_a_damaged_file_of_scikit_learns_is_passed_by(small: Table, homes: list[Path]) -> None:
    with serving(small):
        _fetch_with_scikit_learn(data_id=554)
        damaged = next(file for file in _files(homes[1:2]) if file.name.endswith(".arff.gz"))
        damaged.write_bytes(damaged.read_bytes()[:1000])
        assert len(kn.load("openml:554")) == 200
    assert damaged.stat().st_size == 1000


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("faulty", [API, DOWNLOAD], ids=["api", "download"])
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("504", "HTTP 504"),
        ("silent", "no answer within 0.3 s"),
        ("stalled", "no answer within 0.3 s"),
        ("cut short", "cut short"),
    ],
)
def test_a_fault_is_one_error_and_leaves_nothing(
    fault: Kind, said: str, faulty: str, small: Table, homes: list[Path]
) -> None:
    with serving(small, fault=fault, faulty=faulty):
        _check_refusal("openml:554", said, homes)


@pytest.mark.usefixtures("impatient")
def test_a_wrong_checksum_is_one_error_and_leaves_nothing(small: Table, homes: list[Path]) -> None:
    with serving(small, fault="wrong md5", faulty=DOWNLOAD):
        _check_refusal("openml:554", "checksum does not match", homes)


@pytest.mark.usefixtures("impatient")
def test_an_answer_that_is_no_json_is_one_error_and_leaves_nothing(small: Table, homes: list[Path]) -> None:
    with serving(small, fault="not json", faulty=API):
        _check_refusal("openml:554", "won't do", homes)


@pytest.mark.usefixtures("impatient")
def test_without_a_network_there_is_one_error_and_nothing_left(homes: list[Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with redirected(port):
        _check_refusal("openml:554", "no connection", homes)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("source", ["openml:no-such-thing", "openml:999999", "openml:a b"])
def test_an_unknown_data_set_is_one_error_and_leaves_nothing(source: str, small: Table, homes: list[Path]) -> None:
    with serving(small):
        _check_refusal(source, r"No active dataset \S+ found|data_id 999999 not found", homes)


def test_a_name_stays_one_part_of_the_address(small: Table, homes: list[Path]) -> None:
    with serving(small) as server, pytest.raises(kn.FetchError):
        kn.load("openml:../../up")
    assert server.asked == [f"{API}list/data_name/..%2f..%2fup/limit/2/status/active/"]


@pytest.mark.usefixtures("impatient")
def test_a_known_set_that_is_nowhere_says_how_to_get_it(small: Table, homes: list[Path]) -> None:
    with serving(small, fault="504"):
        assert "KILONET_DATA" in _check_refusal("mnist", "HTTP 504", homes)


def _check_refusal(source: str, said: str, homes: list[Path]) -> str:
    with pytest.raises(kn.FetchError, match=said) as raised:
        kn.load(source)
    error = raised.value
    assert "\n" not in error.message
    assert error.hint is not None
    assert "mnist-5k" in error.hint
    assert _files(homes) == []
    assert socket.getdefaulttimeout() is None
    return error.hint


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("faulty", [API, DOWNLOAD], ids=["api", "download"])
@pytest.mark.parametrize("fault", ["504", "silent", "cut short"])
def test_a_fault_that_passes_is_got_over(fault: Kind, faulty: str, small: Table, homes: list[Path]) -> None:
    with serving(small, fault=fault, faulty=faulty, times=1) as server:
        assert len(kn.load("openml:554")) == 200
        assert server.times == 0
        assert len(server.asked) == 5


def test_a_small_set_under_mnists_number_is_not_mnist(small: Table, homes: list[Path]) -> None:
    with serving(small), pytest.raises(kn.DataError, match="has 200 images"):
        kn.load("mnist")
    assert _files(homes) == []


def test_columns_that_are_no_square_are_refused(small: Table, homes: list[Path]) -> None:
    narrow = Table(7, "narrow", small.pixels[:, :783], small.labels)
    with serving(narrow), pytest.raises(kn.DataError, match="783 pixels are no square image"):
        kn.load("openml:narrow")


def test_classes_of_words_come_in_natural_order(small: Table, homes: list[Path]) -> None:
    words = Table(8, "words", small.pixels[:4, :4], ["c10", "'c2 x'", "c1", "'c2 x'"])
    with serving(words):
        data = kn.load("openml:words")
    assert data.classes == ("c1", "c2 x", "c10")
    assert data.labels.tolist() == [2, 1, 0, 1]


def test_a_name_is_needed() -> None:
    with pytest.raises(kn.DataError, match="needs a name"):
        kn.load("openml:")


@pytest.fixture(scope="module")
def whole(full_mnist: kn.ImageSet) -> Table:
    return _table(full_mnist.pixels, full_mnist.labels)


@pytest.mark.full
def test_all_of_mnist_comes_as_the_tutorial_has_it(whole: Table, full_mnist: kn.ImageSet, homes: list[Path]) -> None:
    with serving(whole):
        bunch = _fetch_with_scikit_learn(name="mnist_784", data_home=homes[2])
        assert bunch.data.shape == (70000, 784)
        assert bunch.target.shape == (70000,)
        for source in ("openml:mnist_784", "openml:554"):
            assert kn.load(source).sha256() == full_mnist.sha256()


@pytest.mark.full
def test_mnist_without_files_comes_from_openml_and_passes_its_checksum(
    whole: Table, full_mnist: kn.ImageSet, homes: list[Path]
) -> None:
    with serving(whole) as server:
        data = kn.load("mnist")
        assert len(server.asked) == 4
    assert data.sha256() == full_mnist.sha256()
    assert (data.test_from, data.preparation, data.classes) == (60_000, "digit", tuple("0123456789"))
    assert [len(part) for part in data.split().parts().values()] == [50_000, 10_000, 10_000]
    assert cache.root().is_relative_to(os.environ["XDG_CACHE_HOME"])
