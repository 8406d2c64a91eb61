"""A model in a process of its own, started for one repeat: starts differ in speed by more than batches of one start."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import pickle
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

from bench.budget import device_clock
from bench.errors import one_line
from bench.interfaces import Generator
from bench.run_folder import manifest as manifests
from bench.sampling.sources import PreparationCost, Recipe, Request, SourceBatch
from bench.scoring.pool import end_with

CLOSE_AFTER_S = 5.0


class FreshSource:
    """Batches that another process samples, one at a time, under its own device clock. loaded: as of `Executor.open`.

    ValueError where something goes wrong there, also where the process ends.
    """

    timed = True
    holds = None
    single_use = True

    def __init__(self, recipe: Recipe, loaded: Callable[[Any], None]) -> None:
        self._name, self._loaded = recipe.name, loaded
        context = multiprocessing.get_context("spawn")
        self._pipe, its_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(recipe, its_end), daemon=True)
        self._process.start()
        its_end.close()

    def prepare(self) -> PreparationCost:
        """Loads and warms up there; the card of the weights is checked here."""
        self._loaded(SimpleNamespace(card=self._answer()))
        cost = self._answer()
        assert isinstance(cost, PreparationCost)
        return cost

    def draws(self, requests: Iterable[Request], ahead: bool) -> Iterator[SourceBatch]:
        """One after the other."""
        for request in requests:
            self._pipe.send(request)
            yield self._answer()

    def close(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join(CLOSE_AFTER_S)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(CLOSE_AFTER_S)

    def _answer(self) -> Any:
        try:
            answer = self._pipe.recv()
        except EOFError:
            self._process.join(CLOSE_AFTER_S)
            raise ValueError(
                f"{self._name}: the process that sampled it ended (exit code {self._process.exitcode}), perhaps for "
                "want of memory"
            ) from None
        if isinstance(answer, Exception):
            raise answer
        return answer


def _serve(recipe: Recipe, pipe: multiprocessing.connection.Connection) -> None:
    """Runs in the other process: sends the card, what making ready took, and a batch for each request."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=end_with, args=(parent.sentinel,), daemon=True).start()

    def send_card(generator: Generator) -> None:
        pipe.send(manifests.as_json(getattr(generator, "card", None)))

    try:
        source = recipe.source(recipe.build(), device_clock(recipe.device), send_card)
        pipe.send(source.prepare())
        while True:
            pipe.send(next(source.draws([pipe.recv()], ahead=False)))
    except (EOFError, BrokenPipeError):
        return  # the parent needs no more
    except Exception as error:
        pipe.send(_as_sent(error))


def _as_sent(error: Exception) -> Exception:
    """The error, or a ValueError of the same words where it cannot travel."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return ValueError(one_line(error, limit=None, kind=True))
    return error
