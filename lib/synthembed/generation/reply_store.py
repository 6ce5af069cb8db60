"""The store of replies: an append-only file of OpenAI Batch output lines, safe against being killed."""

from __future__ import annotations

import contextlib
import errno
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


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


MOST_NESTED = 100  # brackets in one another; a reader with a deeper stack must still be able to read


def body_in(content: bytes) -> dict | None:
    """The chat completion in what an endpoint sent, or None if it is none that can be stored."""
    try:
        text = content.decode(json.detect_encoding(content), "surrogatepass")
        if not _encodes(text):  # some gateways write the two halves of an emoji one by one
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        found = json.loads(text.removeprefix("\ufeff"), parse_constant=lambda name: None)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and not _too_deep(content, found) else None


def _too_deep(content: bytes, found: dict) -> bool:
    if content.count(b"[") + content.count(b"{") <= MOST_NESTED:
        return False
    level: list = [found]
    for _ in range(MOST_NESTED):
        level = [
            below
            for v in level
            if isinstance(v, dict | list)
            for below in (v.values() if isinstance(v, dict) else v)
        ]
    return bool(level)


SYNC_S = 1.0  # a power cut, unlike a killed process, can lose the replies of the last second


def _lock(file) -> None:
    """One writer at a time, where the file system can lock; elsewhere the stage's own lock has to do."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL):
            raise
        print(f"the file system cannot lock {file.name}: take care that no other run writes it", flush=True)


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
            _lock(self._file)
        except BlockingIOError:
            self._file.close()
            raise GenerationStopped(
                f"another run is writing {path.name} in {path.parent.name}: wait for it, or end it"
            ) from None
        self._repair()
        self.ids = self._checked()
        self._synced = time.monotonic()

    def _repair(self) -> None:
        with open(self.path, "rb+") as file:
            size = file.seek(0, os.SEEK_END)
            while size:
                start = max(0, size - 65_536)
                file.seek(start)
                end = file.read(size - start).rfind(b"\n")
                if end >= 0:
                    return self._end_after(file, start + end + 1)
                size = start
            self._end_after(file, 0)

    def _end_after(self, file, place: int) -> None:
        """Keep what follows ``place`` if it is a whole line that only lacks its end."""
        file.seek(place)
        last = file.read()
        with contextlib.suppress(ValueError, RecursionError):
            line = json.loads(last)
            if isinstance(line, dict) and "custom_id" in line:
                file.write(b"\n")
                return
        file.truncate(place)

    def _checked(self) -> set[str]:
        """The custom_ids of the stored lines. Raises GenerationStopped for a line that somebody put there and that
        is no reply, such as a failed request's of a batch's output."""
        found = set()
        for number, line in enumerate(self.lines(), 1):
            name, response = (
                (line.get("custom_id"), line.get("response")) if isinstance(line, dict) else (None, None)
            )
            if (
                not isinstance(name, str)
                or not isinstance(response, dict)
                or not isinstance(response.get("body"), dict)
            ):
                self.close()
                raise GenerationStopped(
                    f"{self.path.name}, line {number}: custom_id {name!r:.60} with no reply (response.body): delete the "
                    "line, and its request is asked again"
                )
            found.add(name)
        return found

    def __contains__(self, custom_id: str) -> bool:
        return custom_id in self.ids

    def append(self, line: dict) -> bool:
        """Store one reply; False if it was there already."""
        if line["custom_id"] in self.ids:
            return False
        text = json.dumps(line, ensure_ascii=False)
        if not _encodes(text):  # half a character: kept as the escape that it came as
            text = json.dumps(line)
        self._file.write(text + "\n")
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
