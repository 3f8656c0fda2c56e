"""Pictures read by processes of their own: side by side, within memory and time, and however damaged they are."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import numpy as np

from kilonet.serve.limits import Limits, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from kilonet.serve.packed import Packed

WORKERS = 2


class Decoders:
    """Processes that make pictures into images.

    Args:
        model: what the images are for.
        limits: on the pixels of a request's pictures, and the seconds that reading them may take.
    """

    def __init__(self, model: Packed, limits: Limits) -> None:
        self._model, self._limits = model, limits
        self._lock = tempfile.TemporaryFile()  # noqa: SIM115  it is open as long as this is
        self._idle: asyncio.Queue[_Worker] = asyncio.Queue()
        self._count = min(WORKERS, os.cpu_count() or 1)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Have the processes run."""
        try:
            for _ in range(self._count):
                self._idle.put_nowait(self._worker())
            yield
        finally:
            while not self._idle.empty():
                self._idle.get_nowait().end()

    @property
    def busy(self) -> bool:
        """Whether pictures are being read."""
        return self._idle.qsize() < self._count

    async def images(self, files: Sequence[bytes | memoryview]) -> tuple[NDArray[np.uint8], list[bool]]:
        """The images in some picture files, uint8, (N, C, H, W), and of each file whether anything was drawn.

        Raises:
            RefusedError: with 422 for what can't be read, 413 for too many pixels, 429 if no process came free in time.
        """
        try:
            async with asyncio.timeout(self._limits.seconds):
                worker = await self._idle.get()
        except TimeoutError:
            raise RefusedError(429, "too many pictures at a time", "try again later") from None
        whole = False
        try:
            async with asyncio.timeout(self._limits.seconds):
                if worker.is_dead:
                    worker = self._instead_of(worker)
                try:
                    status, content = await worker.ask(files)
                except (EOFError, OSError):  # it may have died of something else
                    worker = self._instead_of(worker)
                    status, content = await worker.ask(files)
            whole = True
        except TimeoutError:
            raise RefusedError(422, f"the pictures can't be read within {self._limits.seconds:g} seconds") from None
        except (EOFError, OSError):
            raise RefusedError(422, "the pictures can't be read: two readers died of them") from None
        finally:
            self._idle.put_nowait(worker if whole else self._instead_of(worker))
        if status:
            raise RefusedError(*json.loads(content))
        drawn = [bool(one) for one in content[: len(files)]]
        return np.frombuffer(content, np.uint8, offset=len(files)).reshape(-1, *self._model.shape), drawn

    def _instead_of(self, worker: _Worker) -> _Worker:
        worker.end()
        return self._worker()

    def _worker(self) -> _Worker:
        shape, lock = self._model.shape, self._lock.fileno()
        words = [*map(str, shape), self._model.preparation, str(self._limits.pixels), str(lock)]
        return _Worker(words, lock)


class _Worker:
    """A process, and the connection to it."""

    def __init__(self, words: Sequence[str], lock: int) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with _signals_kept():
            self._process = subprocess.Popen(  # noqa: S603  it is this package's own
                [sys.executable, "-P", "-m", "kilonet.serve.worker", *words],
                stdin=theirs.fileno(), stdout=subprocess.DEVNULL, pass_fds=(lock,), start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )  # fmt: skip
        theirs.close()
        self._socket = ours

    @property
    def is_dead(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    async def ask(self, files: Sequence[bytes | memoryview]) -> tuple[int, bytes]:
        """A question's answer: its status and its bytes.

        Raises:
            EOFError, OSError: if the process died.
        """
        loop = asyncio.get_running_loop()
        lengths = struct.pack(f"<I{len(files)}I", len(files), *map(len, files))
        await loop.sock_sendall(self._socket, lengths + files[0] if len(files) == 1 else b"".join((lengths, *files)))
        head = await self._take(5)
        status, length = struct.unpack("<BI", head[:5])
        content = head[5:]
        if len(content) < length:
            content += await self._take(length - len(content))
        return status, content

    async def _take(self, least: int) -> bytes:
        loop, parts, length = asyncio.get_running_loop(), list[bytes](), 0
        while length < least:
            part = await loop.sock_recv(self._socket, 1 << 18)
            if not part:
                raise EOFError
            parts.append(part)
            length += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def end(self) -> None:
        """Kill it."""
        self._socket.close()
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Hold back what asks for an end; a process that is started meanwhile holds it back for good.

    Who stops a whole group of processes means the server, which needs its readers until it has finished.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
