"""Parts of a run within a time budget: rows on disk after each measurement, what is left out said by name."""

from __future__ import annotations

import contextlib
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from synthembed.ground.files import write_json
from synthembed.ground.hardware import is_out_of_memory

from benchmarks.measure import row

LEAST = 1 / 3  # of a part's seconds, below which it is not begun


class NotHere(RuntimeError):
    """Something cannot be measured on this machine; the message says what is missing."""


class TimeUp(BaseException):
    """A part's time is over. No Exception, so that no library takes it for a failure of its own."""


class Run:
    """Rows of one run; ``out`` has them after each, whole. ``minutes`` is the budget of all parts."""

    def __init__(self, out: Path, minutes: float, clock: Callable[[], float] = time.monotonic):
        self.out, self.clock, self.rows = out, clock, []
        self.end = clock() + 60 * minutes
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, self.rows)

    def part(self, names: list[str], seconds: float, measure: Callable[[], Iterable[dict]]) -> bool:
        """Rows of ``measure`` as it yields them, for at most ``seconds``; of ``names`` that gave none the
        reason. Whether it went to its end."""
        left, reason = self.end - self.clock(), None
        if left < seconds * LEAST:
            reason = f"skipped: {max(0, left):.0f} s are left of the run, the part may take {seconds:.0f}"
        else:
            reason = self._measured(measure, min(seconds, left))
        if reason:
            have = {r["name"] for r in self.rows}
            for name in names:
                if f"gpu/{name}" not in have:
                    self.add(left_out(name, reason))
        return reason is None

    def _measured(self, measure: Callable[[], Iterable[dict]], seconds: float) -> str | None:
        try:
            with limit(seconds):
                for found in measure():
                    self.add(found)
        except TimeUp:
            return f"skipped: its {seconds:.0f} s were over"
        except (NotHere, ImportError) as error:
            return f"not measured: {error}"
        except Exception as error:  # a fault of one part must not cost the others
            if is_out_of_memory(error):
                return "skipped: out of memory"
            traceback.print_exc()
            return f"failed: {type(error).__name__}: {first_line(error)}"
        return None

    def add(self, found: dict) -> None:
        """A row; one of the same name takes the place of the earlier."""
        found = found | {"name": f"gpu/{found['name']}"}
        place = next((i for i, r in enumerate(self.rows) if r["name"] == found["name"]), len(self.rows))
        self.rows[place : place + 1] = [found]
        write_json(self.out, self.rows)
        print(line(found), flush=True)


@contextlib.contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raises TimeUp after ``seconds``, in the main thread, where signals exist."""

    def stop(*_):
        raise TimeUp

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(0.001, seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def left_out(name: str, reason: str) -> dict:
    return row(name, None, None, "", "", reason)


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]


def number(value: float | None) -> str:
    """Four digits that count, or a dash."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def line(found: dict) -> str:
    if found["ours"] is None:
        return f"{found['name']}: {found['check']}"
    beside = f"; {found['peer_name']}: {number(found['peer'])}" if found["peer_name"] else ""
    times = f" ({found['ratio']:.2f}x)" if found["ratio"] else ""
    return f"{found['name']}: {number(found['ours'])} {found['unit']}{beside}{times}; {found['check']}"


def table(rows: list[dict]) -> str:
    """Rows as Markdown."""
    lines = ["| what | ours | beside | ratio | unit | how |", "|---|---|---|---|---|---|"]
    for r in rows:
        beside = f"{number(r['peer'])} ({r['peer_name']})" if r["peer_name"] else "-"
        cells = (r["name"], number(r["ours"]), beside, number(r["ratio"]), r["unit"] or "-", r["check"])
        lines.append("| " + " | ".join(c.replace("|", "/") for c in cells) + " |")
    return "\n".join(lines)
