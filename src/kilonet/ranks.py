"""The ranks of a training: processes that torchrun started, on one host or several, to train one net together.

All that they exchange goes through here. For one process each of it is a no-op. Two groups of gloo carry it: a patient
one for what comes before the first step, while each loads its data, and one for the steps, in which a rank that gives
no answer is missed soon. Tensors of GPUs go through NCCL if every rank has a GPU of its own, else through the CPU.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from kilonet import stopping
from kilonet.errors import KilonetError, LostError, RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

T = TypeVar("T")

LOADING = 600.0
"""Seconds that the ranks wait for each other before the first step: some load their data for longer than others."""
ANSWER = 60.0
"""Seconds that a rank waits for another one in a step; a link that is cut for less is borne."""


@dataclass(frozen=True)
class _Group:
    """The ranks, as one of them sees them.

    Attributes:
        number: this one's, from 0.
        size: how many there are.
        store: a board that all read and write.
        steps: the group that a step's sums go through.
        gpus: the group for tensors of GPUs, or None where these go through the CPU.
    """

    number: int
    size: int
    store: Store
    steps: dist.ProcessGroup
    gpus: dist.ProcessGroup | None


_group: _Group | None = None


def number() -> int:
    """This rank's number, from 0; rank 0 alone writes and speaks."""
    return _group.number if _group else 0


def size() -> int:
    """How many ranks train together."""
    return _group.size if _group else 1


def command(words: str) -> str:
    """A command line as it has to be typed to have these ranks again."""
    return f"torchrun ... -m {words}" if _group else words


@contextmanager
def joined() -> Iterator[int]:
    """Join the ranks that torchrun started; inside, whatever trains trains over all of them.

    It does nothing for a process that torchrun did not start, or started as the only one.

    Yields:
        This rank's number.

    Raises:
        LostError: if the others can't be reached.
    """
    global _group
    if _group is not None or not _launched():
        yield number()
        return
    _group = _join(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    try:
        yield _group.number
    finally:
        leave()


def leave() -> None:
    """Leave the other ranks: this process goes on, or ends, alone."""
    global _group
    if _group is not None:
        _group = None
        dist.destroy_process_group()


def _launched() -> bool:
    told = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    return all(name in os.environ for name in told) and int(os.environ["WORLD_SIZE"]) > 1


def _join(rank: int, ranks: int) -> _Group:
    _choose_interface(os.environ["MASTER_ADDR"])
    patience = timedelta(seconds=LOADING)
    with _listening(f"rank {rank} can't reach the others", LOADING):
        store, _, _ = next(rendezvous("env://", timeout=patience))
        store = PrefixStore(f"kilonet/{_meet(store, rank, ranks)}", store)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks, timeout=patience)
        steps = dist.new_group(backend="gloo", timeout=timedelta(seconds=ANSWER))
        gpus = dist.new_group(backend="nccl", timeout=timedelta(seconds=ANSWER)) if _all_have_gpus(ranks) else None
    return _Group(rank, ranks, store, steps, gpus)


def _meet(store: Store, rank: int, ranks: int) -> str:
    """A name for this meeting of the ranks, the same on all.

    torchrun's store outlives the ranks that it restarts, and the hosts don't count restarts alike: what stands in it
    may be of ranks that are gone. So each rank asks by a word of its own, and rank 0 answers that word.
    """
    own = uuid.uuid4().hex
    if rank:
        store.set(f"kilonet/asks/{rank}", own)
        name = store.get(f"kilonet/told/{own}").decode()
        store.set(f"kilonet/{name}/here/{rank}", "")
        return name
    awaited, end = set(range(1, ranks)), time.monotonic() + LOADING
    while awaited:
        for other in list(awaited):
            if store.check([f"kilonet/asks/{other}"]):
                store.set(f"kilonet/told/{store.get(f'kilonet/asks/{other}').decode()}", own)
            if store.check([f"kilonet/{own}/here/{other}"]):
                awaited.remove(other)
        if time.monotonic() > end:
            raise RuntimeError("timed out")
        time.sleep(0.01)
    return own


def _all_have_gpus(ranks: int) -> bool:
    """Whether every rank has a GPU of its own; it is this process's device `cuda` from then on, shared or not."""
    local, beside = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if there:
        torch.cuda.set_device(local % there)
    found: list[Any] = [None] * ranks
    dist.all_gather_object(found, dist.is_nccl_available() and there >= beside)
    return all(found)


def _choose_interface(address: str) -> None:
    """Have gloo talk through the network interface that leads to rank 0, unless it is told another one.

    By itself it takes the address that the host's own name stands for, which may be one that only this host knows.
    """
    if "GLOO_SOCKET_IFNAME" in os.environ or sys.platform != "linux":
        return
    import fcntl

    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))
        own = socket.inet_aton(probe.getsockname()[0])
        for _, name in socket.if_nameindex():
            with suppress(OSError):
                asked = struct.pack("256s", name.encode()[:15])
                if fcntl.ioctl(probe.fileno(), 0x8915, asked)[20:24] == own:  # SIOCGIFADDR
                    os.environ["GLOO_SOCKET_IFNAME"] = name
                    return


@contextmanager
def _listening(what: str, seconds: float) -> Iterator[None]:
    """Say in one line what it means when a rank does not answer."""
    try:
        yield
    except RuntimeError as error:
        why = f"no answer for {seconds:.0f} s" if _timed_out(error) else "its connection broke"
        raise _lost(f"{what}: {why}") from error


def _lost(what: str) -> LostError:
    """The error for a rank that is lost; torchrun, which asks all others to stop then, is not to cut its line short."""
    stop = stopping.current()
    stop.ended = True
    return LostError(what, stop.hint)


def _timed_out(error: RuntimeError) -> bool:
    return any(words in str(error).lower() for words in ("timed out", "timeout"))


def _missed() -> str:
    return f"rank {number()} of {size()} has lost another one"


def total(tensor: Tensor) -> Tensor:
    """The sum of the ranks' tensors, of one shape and type, in place; the same bits on each.

    Raises:
        LostError: if one of them does not answer.
    """
    if _group is None:
        return tensor
    with _listening(_missed(), ANSWER):
        if tensor.is_cuda and _group.gpus is None:
            summed = tensor.cpu()
            dist.all_reduce(summed, group=_group.steps)
            return tensor.copy_(summed)
        dist.all_reduce(tensor, group=_group.gpus if tensor.is_cuda else _group.steps)
    return tensor


def collected(tensor: Tensor) -> Tensor:
    """The ranks' tensors, of one shape (...) and type, one after another: (ranks, ...).

    Raises:
        LostError: if one of them does not answer.
    """
    if _group is None:
        return tensor[None]
    through = _group.gpus if tensor.is_cuda else _group.steps
    sent = tensor if through is not None else tensor.cpu()
    found = [torch.empty_like(sent) for _ in range(_group.size)]
    with _listening(_missed(), ANSWER):
        dist.all_gather(found, sent, group=through or _group.steps)
    return torch.stack(found).to(tensor.device)


def share(n: int) -> tuple[int, int]:
    """First and last (exclusive) of this rank's contiguous share of n things; shares differ by one at most."""
    return n * number() // size(), n * (number() + 1) // size()


def gather(value: T) -> list[T]:
    """Each rank's value, in their order; values are pickled.

    Raises:
        LostError: if a rank does not answer.
    """
    if _group is None:
        return [value]
    found: list[Any] = [None] * _group.size
    with _listening(_missed(), LOADING):
        dist.all_gather_object(found, value)
    return found


def tell(value: T) -> T:
    """Rank 0's value; it is pickled.

    Raises:
        LostError: if a rank does not answer.
    """
    if _group is None:
        return value
    told = [value]
    with _listening(_missed(), LOADING):
        dist.broadcast_object_list(told, src=0)
    return told[0]


def wait() -> None:
    """Wait for the others, but not for one that is gone."""
    with suppress(LostError):
        total(torch.zeros(1))


def part() -> None:
    """Wait until all have done what they had to do, rank 0 its measuring: where one of them dies, none has ended well.

    After ten minutes a rank ends by itself, and leaves word that it has not died.

    Raises:
        LostError: if one of them dies.
    """
    if _group is None:
        return
    try:
        dist.barrier()
    except RuntimeError as error:
        every = [f"left/{rank}" for rank in range(size())]
        if not _timed_out(error) and not _answered(lambda store: any(store.check([name]) for name in every)):
            raise _lost(f"{_missed()}: its connection broke") from error
        _answered(lambda store: store.set(every[number()], ""))


def on_all(work: Callable[[], T]) -> T:
    """Do something that may fail on some ranks: then it fails on all, with the words of the first that it failed on.

    Raises:
        KilonetError: what it raised there.
    """
    if _group is None:
        return work()
    refusal: KilonetError | None = None
    try:
        done = work()
    except KilonetError as error:
        refusal = error
    refusals = gather(None if refusal is None else (type(refusal), refusal.message, refusal.hint))
    for rank, found in enumerate(refusals):
        if found is not None:
            kind, message, hint = found
            raise _anew(kind, f"rank {rank}: {message}" if rank else message, hint)
    return done


def _anew(kind: type[KilonetError], message: str, hint: str | None) -> KilonetError:
    return kind(message, hint) if kind.__init__ is KilonetError.__init__ else RunError(message, hint)


def same(facts: Mapping[str, object], hint: str) -> None:
    """Make sure that all ranks hold the same of what has to be so, before they do anything with it.

    Args:
        facts: what this rank has, by name; its text is compared.
        hint: what to do where they differ.

    Raises:
        RunError: on all of them, if one rank differs from rank 0.
    """
    mine = {name: str(value) for name, value in facts.items()}
    ours, *others = gather(mine)
    for rank, theirs in enumerate(others, 1):
        for name in {**ours, **theirs}:
            if ours.get(name) != theirs.get(name):
                has, expected = (found.get(name, "none") for found in (theirs, ours))
                raise RunError(f"rank {rank} has another {name} than rank 0: {has}, not {expected}", hint)


def speaks() -> bool:
    """Whether this rank is the one that says why all of them end: the first that asks, or one that is cut off."""
    return _answered(lambda store: store.add("told", 1)) in (None, 1)


def _answered(ask: Callable[[Store], T]) -> T | None:
    """What torchrun's store answers; None if there is none, or it is silent for five seconds, as behind a cut link."""
    if _group is None:
        return None
    found: list[T] = []
    store = _group.store

    def listen() -> None:
        with suppress(RuntimeError):
            found.append(ask(store))

    asking = threading.Thread(target=listen, daemon=True)
    asking.start()
    asking.join(5)
    return found[0] if found else None
