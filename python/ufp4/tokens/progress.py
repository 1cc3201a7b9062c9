"""How far a long work is: a line that renews itself on a terminal, a plain line now and then elsewhere."""

import sys
import time


class Progress:
    def __init__(self, total: int, unit: str, stream=sys.stderr, clock=time.monotonic):
        self._total = max(1, total)
        self._unit = unit
        self._stream = stream
        self._clock = clock
        self._terminal = stream.isatty()
        self._start = self._last = clock()
        self._begun = 0

    def begin_at(self, done: int) -> None:
        """What an earlier run did counts for no rate."""
        self._begun = done

    def show(self, done: int, made: int, last: bool = False) -> None:
        """`done` of the total, with `made` units out of it so far."""
        now = self._clock()
        if not last and now - self._last < (0.2 if self._terminal else 10):
            return
        self._last = now
        seconds = max(now - self._start, 1e-9)
        speed = max(done - self._begun, 1) / seconds
        left = (self._total - done) / speed
        text = f"{100 * done / self._total:5.1f} %  {made} {self._unit}  {(done - self._begun) / seconds / 1e6:.1f} MB/s"
        text += "" if last else f"  {int(left) // 60}:{int(left) % 60:02} left"
        end = "\n" if last or not self._terminal else ""
        print(("\r\x1b[K" if self._terminal else "") + text, end=end, file=self._stream, flush=True)
