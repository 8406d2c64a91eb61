"""Processes of this machine that score chunks."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path

from bench.crystals import Crystals
from bench.device import one_thread_for_new_processes, set_threads
from bench.interfaces import Task
from bench.progress import show_warning
from bench.scoring import tables as scoring
from bench.scoring.tables import Chunk


class ScoringPool:
    """Processes of one thread each that score chunks; one worker is this process."""

    def __init__(self, tasks: Sequence[Task], workers: int) -> None:
        self.workers = workers
        self._tasks = {task.name: task for task in tasks}
        self._executor: ProcessPoolExecutor | None = None

    def score(self, task: Task, todo: Sequence[tuple[Chunk, Path]]) -> Iterator[int]:
        """Scores the chunks into their files, in any order; gives the rows of each as it is done."""
        if self.workers == 1 or len(todo) <= 1:
            for chunk, part in todo:
                yield scoring.score_chunk(task, chunk, part)
            return
        executor = self._processes()
        waiting = iter(todo)
        running: set[Future[int]] = set()
        try:
            while True:
                # No more than a few chunks are handed out ahead: a million crystals are thousands of chunks.
                while len(running) < 2 * self.workers and (item := next(waiting, None)) is not None:
                    running.add(executor.submit(_score_in_worker, task.name, *item))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BrokenProcessPool:
            raise ValueError(
                f"task {task.name}: a scoring process was killed, perhaps for want of memory; "
                "go on with --resume and fewer --workers"
            ) from None

    def warm_up(self, crystals: Crystals) -> None:
        """Scores these with every task in every process, so that what they load first is there. Drops the rows."""
        for task in self._tasks.values():
            task.score(crystals)
        if self.workers > 1:
            executor = self._processes()
            for future in [executor.submit(_warm_up_worker, crystals) for _ in range(self.workers)]:
                future.result()

    def _processes(self) -> ProcessPoolExecutor:
        if self._executor is None:
            context = multiprocessing.get_context("spawn")
            arguments = (self._tasks, context.Barrier(self.workers))
            self._executor = ProcessPoolExecutor(self.workers, context, _start_worker, arguments)
        return self._executor

    def close(self) -> None:
        """Lets no more work begin; gives up what is still waiting."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)


@contextmanager
def scoring_pool(tasks: Sequence[Task], workers: int) -> Iterator[ScoringPool]:
    """A pool for these tasks. Its processes have one thread each: libraries read that when Python starts."""
    if workers < 1:
        raise ValueError(f"--workers {workers}: must be at least 1")
    others = set(multiprocessing.active_children())
    set_threads(1)  # this process scores too, and must get what a worker would
    pool = ScoringPool(tasks, workers)
    with one_thread_for_new_processes():
        try:
            yield pool
        finally:
            pool.close()
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()  # whatever it is at: a chunk is written whole or not at all


_worker_tasks: dict[str, Task] = {}
_all_workers: list[Barrier] = []


def _start_worker(tasks: dict[str, Task], all_workers: Barrier) -> None:
    """Runs first in a worker: keeps the tasks, leaves Ctrl-C to the parent and ends when the parent does."""
    warnings.showwarning = show_warning
    _worker_tasks.update(tasks)
    _all_workers.append(all_workers)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        # A killed parent leaves the queue open on our side too, so that waiting for work would never end.
        threading.Thread(target=end_with, args=(parent.sentinel,), daemon=True).start()


def end_with(sentinel: int) -> None:
    """Ends this process at once when the one with that sentinel is no more."""
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def _score_in_worker(task: str, chunk: Chunk, part: Path) -> int:
    return scoring.score_chunk(_worker_tasks[task], chunk, part)


def _warm_up_worker(crystals: Crystals) -> None:
    """Waits for the others in the end, so that each worker does this once."""
    for task in _worker_tasks.values():
        task.score(crystals)
    _all_workers[0].wait()
