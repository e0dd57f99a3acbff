"""Objects on their way to or from a store, many at once, and who is shown how far they are.  Imports little."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextvars import ContextVar
from dataclasses import dataclass

_SHOWN_EVERY_S = 0.5
Count = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a transfer is: objects and bytes, `left_s` seconds to its end at the speed so far (None while there is none)."""

    objects: int
    of_objects: int
    size: int
    of_size: int
    left_s: float | None


Show = Callable[[Progress], None]
Begin = Callable[[str], contextlib.AbstractContextManager[Show]]  # from what is being done, `fetching ...`
_begin: ContextVar[Begin | None] = ContextVar("transfer_shown", default=None)


@contextlib.contextmanager
def shown_by(begin: Begin) -> Iterator[None]:
    """Every transfer that this thread starts in the block is shown by what `begin` gives: twice a second, and at its end."""
    token = _begin.set(begin)
    try:
        yield
    finally:
        _begin.reset(token)


def transfer(sizes: Mapping[str, int], work: Callable[[str, Count], None], *, doing: str, threads: int) -> None:
    """Calls `work` for every name in `sizes` (bytes), several at a time; the first error ends it and is raised.

    `work` tells its second argument how many bytes have passed.
    """
    begin, total, started = _begin.get(), sum(sizes.values()), time.monotonic()
    guard, passed = threading.Lock(), 0

    def count(size: int) -> None:
        nonlocal passed
        with guard:
            passed += size

    def progress(done: int) -> Progress:
        size = total if done == len(sizes) else min(passed, total)
        left_s = (time.monotonic() - started) / size * (total - size) if size else None
        return Progress(objects=done, of_objects=len(sizes), size=size, of_size=total, left_s=left_s)

    with contextlib.nullcontext() if begin is None else begin(doing) as show, ThreadPoolExecutor(threads) as pool:
        pending = {pool.submit(work, name, count) for name in sizes}
        try:
            while pending:
                done, pending = wait(pending, timeout=_SHOWN_EVERY_S, return_when=FIRST_EXCEPTION)
                for one in done:
                    one.result()
                if show is not None:
                    show(progress(len(sizes) - len(pending)))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
