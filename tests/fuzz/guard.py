"""What a reading may do at most, and the verdict on it.

A reading gives the right kind of answer or refuses with a `KilonetError` of one printable line. Within `SECONDS` of
time, within `BYTES` of memory, without a warning, and without reaching for anything but files in the folders it was
given: whatever else it does is a failure. The limits are set by the operating system (`RLIMIT_DATA`, `ITIMER_REAL`),
and the peak is what the kernel counted (`VmHWM`, set back before each reading). What goes on inside compiled code is
not seen by the audit hook.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import sysconfig
import time
import traceback
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kilonet.errors import KilonetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SECONDS = 1.0
BYTES = 1_000_000_000

Kind = Literal["accepted", "refused", "crash", "wrong", "slow", "memory", "breach", "warning", "message", "dead"]


@dataclass(frozen=True)
class Verdict:
    """What a reading came to.

    Attributes:
        kind: `accepted` and `refused` are fine; anything else is a failure.
        seconds: wall time of the reading.
        peak: bytes of resident memory that the reading took at its peak, over what the process had before.
        detail: what was refused or went wrong.
    """

    kind: Kind
    seconds: float
    peak: int
    detail: str = ""

    @property
    def failed(self) -> bool:
        return self.kind not in ("accepted", "refused")


class Slow(BaseException):
    """The time is up."""


class Breach(BaseException):
    """Something that no reader of data has any business with."""


_FORBIDDEN = (
    "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "os.startfile", "os.kill", "os.putenv",
    "subprocess.Popen", "pty.spawn", "pickle.find_class", "code.__new__", "ctypes.dlopen", "webbrowser.open",
    "socket.bind", "socket.gethost", "socket.sendto", "ftplib.", "smtplib.", "os.setxattr", "os.chown", "exec",
)  # fmt: skip
"""Audit events that are refused whatever their arguments."""
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {
    "os.remove": (0,), "os.rename": (0, 1), "os.rmdir": (0,), "os.mkdir": (0,), "os.link": (1,), "os.symlink": (1,), "os.chmod": (0,),
    "os.truncate": (0,), "shutil.rmtree": (0,), "shutil.move": (0, 1),
}  # fmt: skip
"""Audit events of what changes the disk, and which of their arguments name what changes."""
_HERE = Path(__file__).resolve().parents[2]
_CODE = [Path(str(path)).resolve() for path in {*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix, _HERE}]
_SYSTEM = [Path(path) for path in ("/proc/self", "/sys/fs/cgroup", "/dev/null", "/dev/urandom", "/usr/share/zoneinfo")]


class Guard:
    """Watches readings in this process; there can be one, since audit hooks stay for good.

    Args:
        folders: where readings may read and write.
        network: a port of this machine to which they may connect.
    """

    def __init__(self, folders: Sequence[Path], network: int | None = None) -> None:
        self.writable = [folder.resolve() for folder in folders]
        self.readable = [*self.writable, *_CODE, *_SYSTEM]
        self.network = network
        self.active = False
        self.breaches: list[str] = []
        sys.addaudithook(self._audit)
        signal.signal(signal.SIGALRM, _ring)

    def limit_memory(self) -> None:
        """From here on the process gets no more than `BYTES` of data over what it has now."""
        most = _status("VmData") + BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))

    def judge(self, read: Callable[[], object], check: Callable[[Any], bool]) -> Verdict:
        """Read once, under every limit; `check` says whether an answer is of the right kind."""
        self.breaches.clear()
        Path("/proc/self/clear_refs").write_text("5")
        before, started = _status("VmRSS"), time.perf_counter()
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            kind, detail = self._outcome(read, check)
        seconds, peak = time.perf_counter() - started, max(0, _status("VmHWM") - before)
        if self.breaches:
            kind, detail = "breach", "; ".join(self.breaches)
        elif seconds > SECONDS:
            kind, detail = "slow", f"{seconds:.2f} s\n{detail}"
        elif peak > BYTES:
            kind, detail = "memory", f"{peak:,} bytes"
        elif warned and kind in ("accepted", "refused"):
            kind, detail = "warning", f"{warned[0].category.__name__}: {warned[0].message} ({warned[0].filename})"
        return Verdict(kind, seconds, peak, detail)  # type: ignore[arg-type]

    def _outcome(self, read: Callable[[], object], check: Callable[[Any], bool]) -> tuple[str, str]:
        """What a reading came to, and what tells more about it."""
        try:
            with self._watching():
                answer = read()
            if check(answer):
                return "accepted", ""
        except KilonetError as error:
            return _judge_refusal(error)
        except Slow:
            return "slow", traceback.format_exc()
        except Breach as error:
            return "breach", str(error)
        except MemoryError:
            return "memory", traceback.format_exc()
        except BaseException:
            return "crash", traceback.format_exc()
        return "wrong", f"not the right kind of answer: {answer!r}"[:500]

    @contextmanager
    def _watching(self) -> Iterator[None]:
        signal.setitimer(signal.ITIMER_REAL, SECONDS, SECONDS)
        self.active = True
        try:
            yield
        finally:
            self.active = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if self.active and (what := self._breach(event, args)) is not None:
            self.breaches.append(what)
            raise Breach(what)

    def _breach(self, event: str, args: tuple[Any, ...]) -> str | None:
        if event == "exec" and _is_installed(args[0]):
            return None
        if event.startswith(_FORBIDDEN):
            return f"{event} {str(args)[:300]}"
        if event == "import" and str(args[0]).split(".")[0] not in _importable():
            return f"import of {args[0]!r}"
        if event in ("socket.connect", "socket.getaddrinfo") and not self._is_loopback(event, args):
            return f"{event} {str(args[1:])[:300]}"
        if event == "open" and isinstance(args[0], (str, bytes)):
            return self._opened(Path(os.fsdecode(args[0])), args[2])
        changed = [args[i] for i in _CHANGES.get(event, ()) if not isinstance(args[i], int)]
        if any(not _within(Path(os.fsdecode(path)), self.writable) for path in changed):
            return f"{event} {str(args)[:300]}"
        return None

    def _is_loopback(self, event: str, args: tuple[Any, ...]) -> bool:
        host, port = args[1][:2] if event == "socket.connect" and isinstance(args[1], tuple) else args[:2]
        return bool(host == "127.0.0.1" and port == self.network)

    def _opened(self, path: Path, flags: int) -> str | None:
        if flags & _WRITES and not _within(path, self.writable):
            return f"open for writing: {path}"
        if not _within(path, self.readable):
            return f"open outside: {path}"
        return None


@contextmanager
def frugal(seconds: float = 10, size: int = 400_000_000) -> Iterator[None]:
    """For the test of one attack: what hangs, or takes more memory than so many bytes, fails."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    ringing = signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    except Slow:
        raise AssertionError(f"took more than {seconds:g} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, ringing)
    assert _status("VmHWM") - before < size


def _judge_refusal(error: KilonetError) -> tuple[Kind, str]:
    """A refusal is one printable line of a decent length, and no cover for memory that ran out or an escape."""
    lines = [error.message] if error.hint is None else [error.message, error.hint]
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            return "memory", f"MemoryError behind: {error}"
        cause = cause.__context__
    for line in lines:
        if not line.isprintable() or not line.strip() or len(line) > 1000:
            return "message", f"{len(line)} characters: {line[:1000]!r}"
    return "refused", f"{type(error).__name__}: {error}"


def _ring(*_: object) -> None:
    raise Slow


def _within(path: Path, folders: Sequence[Path]) -> bool:
    resolved = Path(os.path.realpath(path))
    return any(resolved.is_relative_to(folder) for folder in folders)


def _is_installed(code: Any) -> bool:
    """Whether code comes from an installed module, or was made by one of those that write code of classes."""
    name = getattr(code, "co_filename", "")
    if name == "<string>":
        return sys._getframe(4).f_globals["__name__"] in ("typing", "dataclasses", "collections")
    return name.startswith("<frozen") or (Path(name).is_absolute() and _within(Path(name), _CODE))


_known: set[str] = set()


def _importable() -> set[str]:
    """The top names of the standard library, of what is loaded already, and of Kilonet's dependencies."""
    if not _known:
        _known.update(sys.stdlib_module_names, (name.split(".")[0] for name in sys.modules))
    return _known


def _status(name: str) -> int:
    """A figure of the kernel's about this process, in bytes."""
    with Path("/proc/self/status").open() as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{name}:"))
