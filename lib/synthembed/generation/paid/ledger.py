"""What was sent and not answered: money that may have been spent, remembered across restarts.

A line is written before each request and another when its reply is stored or it was certainly not billed.
What is left without a second line when a run ends, killed runs included, counts against the budget.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from synthembed.generation.reply_store import GenerationStopped

FOLDER = "ledger"  # beside the replies: what was sent, what is asked for anew, with which settings


class Ledger:
    """``sent.jsonl`` in ``folder``: [1, custom_id, USD at most] for a request sent, [-1, custom_id] for one
    that is settled, [0, "before", USD] for the rest of earlier runs.

    With ``sync`` a request's line is on the disk before the request leaves, whatever happens to the machine.
    The caller holds the store's lock: one process writes.
    """

    def __init__(self, folder: Path, sync: bool):
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.sync = folder / "sent.jsonl", sync
        self.unconfirmed = _left(self.path)  # USD of earlier runs
        partial = self.path.with_suffix(".partial")
        with open(partial, "w", encoding="utf-8") as file:
            if self.unconfirmed:
                file.write(json.dumps([0, "before", self.unconfirmed]) + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)
        self._file = open(self.path, "a", encoding="utf-8")

    def sent(self, custom_id: str, usd: float) -> None:
        self._write([1, custom_id, usd])
        if self.sync:
            os.fsync(self._file.fileno())

    def settled(self, custom_id: str) -> None:
        self._write([-1, custom_id])

    def _write(self, entry: list) -> None:
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()

    def close(self) -> None:
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()


def noted(path: Path, without: Any, warning: str = "") -> Any:
    """The content of a JSON file of ours, or ``without`` if there is none. Raises GenerationStopped for one that
    cannot be read, as a power cut may leave it; ``warning`` says what is lost with it."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else without
    except ValueError as error:
        told = f" ({warning})" if warning else ""
        raise GenerationStopped(
            f"{path.parent.name}/{path.name} is damaged ({error}): delete it and run again{told}"
        ) from None


def _left(path: Path) -> float:
    """USD of the requests in a ledger that are not settled; a torn last line is one that was not sent."""
    open_requests: Counter = Counter()
    most: dict[str, float] = {}
    before = 0.0
    for text in path.read_bytes().split(b"\n") if path.exists() else ():
        try:
            kind, custom_id, *usd = json.loads(text)
            usd = [float(one) for one in usd]
        except (ValueError, TypeError):
            continue
        if kind == 0:
            before += sum(usd)
        elif kind in (1, -1):
            open_requests[custom_id] += kind
            most[custom_id] = max(most.get(custom_id, 0.0), *usd, 0.0)
    return before + sum(most[i] * count for i, count in open_requests.items() if count > 0)


def unconfirmed(folder: Path) -> float:
    """USD that the requests of earlier runs without a stored reply may have cost; changes nothing."""
    return _left(folder / "sent.jsonl")
