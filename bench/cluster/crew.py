"""Workers of a scheduler that are ready for one kind of work, and jobs handed out to them a few at a time."""

from __future__ import annotations

import pickle
import queue
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from distributed import Client, Future
from distributed.scheduler import KilledWorker

from bench.cluster.remote import NotReady, Report, Setup, set_up, work
from bench.errors import one_line
from bench.progress import say

Item = TypeVar("Item")
Answer = TypeVar("Answer")

JOBS_PER_WORKER = 2  # one that runs and one that waits, so that no worker idles while an answer travels
LOOK_S = 1.0  # between two looks at which workers there are
CALL_S = 60.0  # for the scheduler to answer
ANSWER_S = 5.0  # for an answer to come over at the first try, before others are seen to
MISSED_SETUPS = 3  # a worker that is set up again more often serves another run at the same time


@dataclass(frozen=True)
class Connection:
    """A scheduler.

    where: its address or file, for messages. patience_s: how long to bear that there is no worker; None for ever.
    """

    client: Client
    where: str
    patience_s: float | None
    _said: set[str] = field(default_factory=set)

    def say_once(self, line: str) -> None:
        """A line about a worker, which would be said again with each set-up."""
        if line not in self._said:
            self._said.add(line)
            say(line)

    def lost(self, why: object) -> ValueError:
        """The error that the scheduler is gone."""
        lines = str(why).splitlines() or [type(why).__name__]
        return ValueError(f"the Dask scheduler of {self.where} is gone ({lines[0].rstrip('.')})")

    def threads_by_worker(self) -> dict[str, int]:
        """The workers that there are, by address."""
        try:
            return dict(self.client.nthreads(callback_timeout=CALL_S))
        except Exception as error:  # whatever it is: nothing but the connection is used here
            raise self.lost(error) from error


class Crew:
    """Workers after the same set-up. One that cannot be set up is refused, with the reason, and gets no job.

    All errors are ValueErrors of one line: no worker left or in sight, the scheduler gone, a job that failed.
    """

    def __init__(self, connection: Connection, setup: Setup) -> None:
        self._connection, self._client = connection, connection.client
        self._token, self._setup = setup.token, pickle.dumps(setup)
        self._ready: dict[str, Report] = {}
        self._checking: dict[Future[bytes], str] = {}
        self._refused: dict[str, str] = {}
        self._missed: Counter[str] = Counter()
        self._ended: queue.SimpleQueue[Future[bytes]] = queue.SimpleQueue()
        self._looked = float("-inf")
        self._alone_since: float | None = None
        self._device: str | None = None

    def first(self) -> Report:
        """What the first worker said that was ready. Waits for it."""
        while not self._ready:
            self._next()
        return next(iter(self._ready.values()))

    def map(
        self,
        function: Callable[[Any, Item], Answer],
        items: Iterable[Item],
        at_most: int | None = None,
        ordered: bool = False,
    ) -> Iterator[tuple[Item, Answer]]:
        """Each item with what a worker makes of it, as they come or, ordered, as they went out.

        function: of what the set-up made and an item. at_most: jobs at a time, else `JOBS_PER_WORKER` for each worker;
        ordered, as many answers again may wait for an earlier one. No item is taken before there is room for it. A job
        whose worker is lost is done again by another one.
        """
        numbered = enumerate(items)
        again: list[tuple[int, Item]] = []
        running: dict[Future[bytes], tuple[int, Item, frozenset[str]]] = {}
        held: dict[int, tuple[Item, Answer]] = {}
        given = 0
        try:
            while True:
                most = JOBS_PER_WORKER * len(self._ready)
                room = most if at_most is None else min(at_most, most)
                while len(running) < room and (again or len(running) + len(held) < 2 * room):
                    job = again.pop() if again else next(numbered, None)
                    if job is None:
                        break
                    future, only = self._submit(function, job[1])
                    running[future] = (*job, only)
                if not running and not again:
                    job = next(numbered, None)  # there may be one that waits for the first worker
                    if job is None:
                        return
                    again.append(job)
                ended = self._next()
                stranded = self._stranded(running)
                again += [running.pop(future)[:2] for future in stranded]
                self._drop(stranded)
                if ended not in running:
                    continue
                answer = self._answer(ended)
                if answer == "later":
                    continue
                number, item, _ = running.pop(ended)
                if answer == "again":
                    again.append((number, item))
                elif not ordered:
                    yield item, pickle.loads(answer)
                else:
                    held[number] = (item, pickle.loads(answer))
                    while given in held:
                        yield held.pop(given)
                        given += 1
        finally:
            self._drop(list(running))

    def _drop(self, futures: list[Future[bytes]]) -> None:
        """Jobs that nobody waits for any more."""
        if futures:
            with suppress(Exception):  # the scheduler may be gone, and its jobs with it
                self._client.cancel(futures)

    def _submit(self, function: Callable[[Any, Item], Answer], item: Item) -> tuple[Future[bytes], frozenset[str]]:
        """Hands a job out. The second: the only workers who may have it, none named where all are ready."""
        only = frozenset(self._ready) if self._refused or self._checking else frozenset()
        job = pickle.dumps((function, item))
        future = self._client.submit(work, self._token, job, pure=False, workers=list(only) or None)
        future.add_done_callback(self._ended.put)
        return future, only

    def _answer(self, future: Future[bytes]) -> bytes | Literal["again", "later"]:
        """What a job gave. again: it has to be handed out anew. later: it was lost on its way and is computed anew."""
        try:
            return bytes(future.result(timeout=ANSWER_S))
        except Exception as error:  # also of the job, which may only now be computed anew: the status tells
            if future.status == "cancelled":
                raise self._connection.lost(error) from error
            if future.status != "error":
                future.add_done_callback(self._ended.put)
                return "later"
            if isinstance(error, NotReady):
                self._forget(str(error), missed=True)
                return "again"
            if isinstance(error, KilledWorker):
                raise ValueError(
                    f"a job was given up after {error.allowed_failures + 1} workers died with it, perhaps for want of "
                    "memory; give workers more, or let Dask bear more deaths (distributed.scheduler.allowed-failures)"
                ) from None
            raise

    def _next(self) -> Future[bytes] | None:
        """The next job that ended; None where there is none yet, but something about the workers may have changed."""
        if time.monotonic() - self._looked >= LOOK_S:
            self._look()
        try:
            future = self._ended.get(timeout=LOOK_S)
        except queue.Empty:
            return None
        if future in self._checking:
            self._checked(self._checking.pop(future), future)
            return None
        return future

    def _look(self) -> None:
        """Forgets workers that left and sets new ones up."""
        present = self._connection.threads_by_worker()
        self._looked = time.monotonic()
        for address in {*self._ready, *self._refused, *self._checking.values()} - {*present}:
            self._forget(address)
        for address in {*present} - {*self._ready, *self._refused, *self._checking.values()}:
            if present[address] != 1:
                self._refuse(address, f"it has {present[address]} threads; start it with `--nthreads 1`")
                continue
            future = self._client.submit(set_up, self._setup, pure=False, workers=[address])
            self._checking[future] = address
            future.add_done_callback(self._ended.put)
        if self._ready or self._checking:
            self._alone_since = None
            return
        if self._refused and self._device is None:  # none was ever good
            raise ValueError(f"no worker of {self._connection.where} may take part: {'; '.join(self._reasons()[:3])}")
        self._wait()

    def _wait(self) -> None:
        """Says once that there is no worker. ValueError where that lasts."""
        where, patience_s = self._connection.where, self._connection.patience_s
        if self._alone_since is None:
            self._alone_since = time.monotonic()
            say(f"{where}: no worker yet; waiting for one")
        elif patience_s is not None and time.monotonic() - self._alone_since > patience_s:
            raise ValueError(f"no worker joined {where} in {patience_s:g} s; start `dask worker ... --nthreads 1`")

    def _checked(self, address: str, future: Future[bytes]) -> None:
        """Takes a worker in that was set up, or refuses it."""
        if future.status == "cancelled":
            raise self._connection.lost("the connection was lost")
        if future.status == "error":
            error = future.exception()
            if isinstance(error, Exception):
                self._refuse(address, one_line(error, limit=None))
            return
        try:
            report: Report = pickle.loads(future.result(timeout=ANSWER_S))
        except TimeoutError:
            return  # it died since; the next look tells
        self._ready[address] = report
        device = str(report.device["name"])
        self._device = self._device or device
        if device != self._device:
            self._connection.say_once(
                f"{address}: {device}, the first worker has {self._device}: last digits may differ"
            )

    def _refuse(self, address: str, reason: str) -> None:
        self._refused[address] = reason
        self._connection.say_once(f"{address}: refused: {reason}")
        if not self._ready and not self._checking:
            self._looked = float("-inf")  # so that the next look, which is at once, says that nobody is left

    def _reasons(self) -> list[str]:
        return [f"{address}: {reason}" for address, reason in self._refused.items()]

    def _forget(self, address: str, missed: bool = False) -> None:
        """Treats a worker as one that was never seen. missed: it is there, but not set up."""
        was_ready = self._ready.pop(address, None) is not None
        self._refused.pop(address, None)
        for future in [future for future, checked in self._checking.items() if checked == address and not missed]:
            del self._checking[future]
        if missed:
            self._looked = float("-inf")
            self._missed[address] += was_ready
            if self._missed[address] > MISSED_SETUPS:
                self._refuse(address, "it serves another run at the same time")

    def _stranded(self, running: dict[Future[bytes], tuple[int, Any, frozenset[str]]]) -> list[Future[bytes]]:
        """Jobs that only workers may have who are not there any more."""
        return [future for future, (_, _, only) in running.items() if only and only.isdisjoint(self._ready)]
