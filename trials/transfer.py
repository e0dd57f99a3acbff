"""Objects on their way to or from a store, many at once, and who is shown how far they are."""

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

    doing: str
    objects: int
    of_objects: int
    size: int
    of_size: int
    left_s: float | None


_show: ContextVar[Callable[[Progress], None] | None] = ContextVar("transfer_progress", default=None)


@contextlib.contextmanager
def shown_to(show: Callable[[Progress], None]) -> Iterator[None]:
    """Tells `show` twice a second about every transfer that this thread begins in the block, and once when it is done."""
    token = _show.set(show)
    try:
        yield
    finally:
        _show.reset(token)


def transfer(sizes: Mapping[str, int], work: Callable[[str, Count], None], *, doing: str, threads: int) -> None:
    """Calls `work` for every name in `sizes` (bytes), several at a time; the first error ends it and is raised.

    `work` tells its second argument how many bytes have passed.
    """
    show, total, started = _show.get(), sum(sizes.values()), time.monotonic()
    guard, passed = threading.Lock(), 0

    def count(size: int) -> None:
        nonlocal passed
        with guard:
            passed += size

    def tell(done: int) -> None:
        if show is not None:
            size = total if done == len(sizes) else min(passed, total)
            left_s = (time.monotonic() - started) / size * (total - size) if size else None
            show(Progress(doing=doing, objects=done, of_objects=len(sizes), size=size, of_size=total, left_s=left_s))

    with ThreadPoolExecutor(threads) as pool:
        pending = {pool.submit(work, name, count) for name in sizes}
        try:
            while pending:
                done, pending = wait(pending, timeout=_SHOWN_EVERY_S, return_when=FIRST_EXCEPTION)
                for one in done:
                    one.result()
                tell(len(sizes) - len(pending))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
