"""Plain text for who watches: progress with an ETA, at most a line every few seconds, also under papermill; numbers
of things in words."""

from __future__ import annotations

import re
import time

WARNED = 0.01  # share of texts that may be cut, or of examples left out, without a warning
LINE = re.compile(r"^(?P<what>.*): [\d,]+/[\d,]+ .* ETA \d+:\d\d")


class Progress:
    def __init__(self, what: str, unit: str = "tokens", every: float = 10.0):
        self.what, self.unit, self.every = what, unit, every
        self.start = self.last = time.monotonic()

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Print that ``done`` of ``total`` is reached, if it is time to; of a short job, nothing."""
        now = time.monotonic()
        last_of_long = done >= total and now - self.start >= self.every
        if now - self.last < self.every and not last_of_long:
            return
        self.last = now
        spent = max(now - self.start, 1e-9)
        rate = done / spent
        left = (total - done) / rate if done else 0
        speed = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
        print(
            f"{self.what}: {done:,}/{total:,} {self.unit}, {speed} {self.unit}/s, "
            f"ETA {int(left // 60)}:{int(left % 60):02d}{'  ' + note if note else ''}",
            flush=True,
        )


def counted(number: int, what: str) -> str:
    """ "1 passage", "2 passages"."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def last_only(text: str) -> str:
    """``text`` with the last line alone of each run of lines that one Progress printed."""
    lines = text.splitlines(keepends=True)
    whose = [found["what"] if (found := LINE.match(line)) else None for line in lines]
    following = [*whose, None][1:]
    return "".join(
        line
        for line, mine, other in zip(lines, whose, following, strict=True)
        if mine is None or mine != other
    )
