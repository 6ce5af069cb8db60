"""The store of replies: an append-only file of OpenAI Batch output lines, safe against being killed."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from synthembed.ground.files import read_lines


class GenerationStopped(RuntimeError):
    """Generation cannot go on (wrong key, no quota, no recording); what is stored stays stored."""


def reply_line(custom_id: str, body: dict) -> dict:
    """A Batch output line around the body of a chat completion."""
    return {
        "id": f"batch_req_{custom_id}",
        "custom_id": custom_id,
        "response": {"status_code": 200, "request_id": body.get("id", ""), "body": body},
        "error": None,
    }


SYNC_S = 1.0  # a power cut, unlike a killed process, can lose the replies of the last second


class ReplyStore:
    """Replies by custom_id, one line each, flushed as they arrive; none is stored twice.

    A last line torn by a crash is cut off on opening: its request will be asked for again. One
    process at a time may write, as two would pay for the same requests: GenerationStopped.
    """

    def __init__(self, path: Path):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a", encoding="utf-8")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise GenerationStopped(
                f"another run is writing {path.name} in {path.parent.name}: wait for it, or end it"
            ) from None
        self._repair()
        self.ids = {line["custom_id"] for line in self.lines()}
        self._synced = time.monotonic()

    def _repair(self) -> None:
        with open(self.path, "rb+") as file:
            size = file.seek(0, os.SEEK_END)
            while size:
                start = max(0, size - 65_536)
                file.seek(start)
                end = file.read(size - start).rfind(b"\n")
                if end >= 0:
                    file.truncate(start + end + 1)
                    return
                size = start
            file.truncate(0)

    def __contains__(self, custom_id: str) -> bool:
        return custom_id in self.ids

    def append(self, line: dict) -> bool:
        """Store one reply; False if it was there already."""
        if line["custom_id"] in self.ids:
            return False
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()
        self.ids.add(line["custom_id"])
        if time.monotonic() - self._synced > SYNC_S:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()
        return True

    def lines(self) -> Iterator[dict]:
        return read_lines(self.path)

    def missing(self, requests: Path) -> Iterator[dict]:
        """The lines of a requests file that have no reply yet; streams."""
        return (line for line in read_lines(requests) if line["custom_id"] not in self.ids)

    def close(self) -> None:
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
