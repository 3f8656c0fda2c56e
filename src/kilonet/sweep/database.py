"""The database that a sweep's trials stand in: reached, waited for while it is away, and told of without secrets."""

from __future__ import annotations

import logging
import re
import time
import warnings
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from kilonet.errors import ConfigError, RunError

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.engine import URL

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds that the database may be away."""
BEAT = 5
"""Seconds between two signs of life of a trial that runs."""
GRACE = 30
"""Seconds without one after which a trial is lost."""
FAILURES = (StorageInternalError, SQLAlchemyError)
"""What a database that won't do raises."""

_HOPELESS = re.compile(
    r"FATAL:.*(does not exist|password|pg_hba)|no password supplied|"
    r"permission denied|read-?only|malformed|not a database"
)
_NO_ROOM = re.compile("disk is full|No space left|could not extend file")
IDLE = 15
"""Seconds after which PostgreSQL ends a transaction whose client says nothing, as after a cut link, with its locks."""
LOCKED = 20
"""Seconds that a statement waits for a lock."""
_POSTGRES: dict[str, Any] = {"connect_timeout": 5, "keepalives_idle": 10, "keepalives_interval": 5,
                             "keepalives_count": 3, "tcp_user_timeout": 15_000}  # fmt: skip


class AwayError(RunError):
    """A database that was away for longer than anyone waits."""


class Database:
    """A database that is waited for.

    Attributes:
        shown: its URL without a password.
        rdb: Optuna's storage on it.
        steady: since when it has not been seen away, on the monotonic clock, in seconds.

    Raises:
        ConfigError: for a URL that won't do.
        AwayError: if it can't be reached in time.
        RunError: if it can be, and won't do.
    """

    def __init__(self, url: str, say: Callable[[str], None] = lambda _: None, patience: float | None = None) -> None:
        self._url, self._say = _parsed(url), say
        self.patience = PATIENCE if patience is None else patience
        self.shown = shown(self._url)
        self.steady = time.monotonic()
        optuna.logging.set_verbosity(optuna.logging.CRITICAL)
        logging.getLogger("alembic").setLevel(logging.CRITICAL)
        try:
            self.rdb: RDBStorage = self.ask(self._opened)
        except RuntimeError as error:
            raise RunError(f"{self.shown} was set up by another Optuna: {_first_line(error)}") from None
        weakref.finalize(self, self.rdb.engine.dispose)

    def ask(self, do: Callable[[], T]) -> T:
        """What something gives that needs the database; it is tried again while that is away.

        Raises:
            AwayError: if it is away for too long.
            RunError: if there is no room in it, or it refuses.
        """
        until, pause, told = time.monotonic() + self.patience, 0.1, False
        while True:
            try:
                return do()
            except FAILURES as error:
                why = self._why(error)
            self.steady = time.monotonic()
            if _NO_ROOM.search(why):
                raise RunError(f"no room in {self.shown}: {why}", "make room; the same command goes on then")
            if _HOPELESS.search(why):
                raise RunError(f"{self.shown} can't be used: {why}", "mend it, or give another --storage")
            if self.steady >= until:
                raise AwayError(f"{self.shown} has been away for {self.patience:.0f} s: {why}")
            if not told and pause > 0.5:
                self._say(f"{self.shown} is away, and tried again for {self.patience:.0f} s: {why}")
                told = True
            time.sleep(min(pause, max(until - self.steady, 0)))
            pause = min(2 * pause, 5)

    def _opened(self) -> RDBStorage:
        sqlite = self._url.get_backend_name() == "sqlite"
        how = {"timeout": 60} if sqlite else {**_POSTGRES, "options": _options(self._url)}
        text = self._url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # heartbeats are called experimental
            opened = RDBStorage(
                text, {"pool_pre_ping": not sqlite, "connect_args": how}, heartbeat_interval=BEAT, grace_period=GRACE
            )
        if sqlite:
            _one_after_another(opened)
        return opened

    def _why(self, error: BaseException) -> str:
        """A failure in one line, as the driver puts it, without the password."""
        cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
        line = _first_line(getattr(cause, "orig", None) or cause)
        return line.replace(self._url.password, "***") if self._url.password else line


def _options(url: URL) -> str:
    """What PostgreSQL is asked for in each session: not to wait for clients that are gone; the URL's own come last."""
    settings = {
        "idle_in_transaction_session_timeout": 1000 * IDLE,
        "lock_timeout": 1000 * LOCKED,
        "tcp_keepalives_idle": 10,
        "tcp_keepalives_interval": 5,
        "tcp_keepalives_count": 3,
    }
    own = url.query.get("options", "")
    ours = [f"-c {key}={value}" for key, value in settings.items()]
    return " ".join([*ours, *([own] if isinstance(own, str) else own)])


def _one_after_another(opened: RDBStorage) -> None:
    """Have SQLite do one transaction after another, reading included: what was read holds until it is acted on."""

    def connected(connection: Any, _: object) -> None:
        connection.isolation_level = None

    def begun(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    opened.engine.dispose()
    event.listen(opened.engine, "connect", connected)
    event.listen(opened.engine, "begin", begun)


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite:///{path.absolute()}"


def _parsed(text: str) -> URL:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigError("--storage is no URL", "such as postgresql://USER@HOST/DATABASE") from None
    backend = url.get_backend_name()
    if backend == "postgresql":
        with suppress(ImportError):
            import psycopg  # noqa: F401

            return url.set(drivername="postgresql+psycopg")
        raise ConfigError("--storage postgresql://... needs psycopg", "pip install 'kilonet[sweep]'")
    if backend != "sqlite":
        raise ConfigError(f"--storage {backend}: won't do: expected postgresql: or sqlite:")
    return url


def shown(url: URL | str) -> str:
    """A URL without its password."""
    found = make_url(url)
    found = found.set(drivername=found.get_backend_name())
    hidden = {key: "***" if "pass" in key.lower() else value for key, value in found.query.items()}
    return found.set(query=hidden).render_as_string(hide_password=True)


def _first_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
