"""Endpoints of this machine: chat completions that answer by schema or misbehave, and the Batch API."""

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from synthembed import profile
from synthembed.ground.files import read_lines

SMALL = ["generate.examples=30", "generate.max_retries=0", "generate.timeout_s=2"]


class Endpoint(ThreadingHTTPServer):
    """A chat completion server that answers by schema, or misbehaves as ``script`` tells it."""

    daemon_threads = True
    request_queue_size = 512  # many clients connect at once

    def __init__(self, script=lambda body, number: None):
        self.script, self.asked = script, Counter()
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked[body["seed"]] += 1
            number = sum(self.server.asked.values())
        told = self.server.script(body, number) or (200, answer(body))
        status, reply, headers = (*told, {}) if len(told) == 2 else told
        if status == "reset":  # in the middle of the body
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"id": "c", "choi')
            self.wfile.flush()
            self.connection.shutdown(2)
            return
        data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


def answer(body: dict) -> dict:
    properties = body["response_format"]["json_schema"]["schema"]["properties"]
    content = {
        key: [f"task {body['seed']} {n}" for n in range(20)]
        if kind["type"] == "array"
        else f"{key} {body['seed']}"
        for key, kind in properties.items()
    }
    message = {"role": "assistant", "content": json.dumps(content)}
    return {
        "id": "c", "object": "chat.completion", "created": 0, "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }  # fmt: skip


def live(url: str, *more: str) -> profile.Profile:
    return profile.load("laptop", [*SMALL, "generate.backend=live", f"generate.base_url={url}", *more])


def error(status: int, code: str, message: str = "no"):
    return status, {"error": {"message": message, "type": "x", "code": code}}


def stored(folder) -> list[str]:
    return [line["custom_id"] for line in read_lines(folder / "replies.jsonl")]


def requested(folder) -> set[str]:
    return {line["custom_id"] for line in read_lines(folder / "requests.jsonl")}


class BatchApi(ThreadingHTTPServer):
    """The part of the Batch API that the backend uses; ``fate(batch number, line)`` decides replies."""

    daemon_threads = True

    def __init__(self, fate=lambda number, line: "ok"):
        self.fate, self.files, self.batches = fate, {}, []
        self.asked: Counter = Counter()
        self.expire: set[int] = set()
        self.cancel: set[int] = set()
        self.full: set[int] = set()  # batches refused as the queue holds too many tokens
        self.looks: Counter = Counter()  # at files that are still being read
        self.cut: set[str] = set()  # files whose first download breaks off
        self.unready = 0
        self.room: int | None = None  # requests that the queue takes at one time
        super().__init__(("127.0.0.1", 0), BatchHandler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def create(self, file_id: str) -> dict:
        number = len(self.batches)
        out, errors = [], []
        lines = self.files[file_id].splitlines()
        if number in self.full or (self.room and len(lines) > self.room):
            told = {"data": [{"code": "token_limit_exceeded", "message": "too many tokens enqueued"}]}
            return self.add(file_id, "failed", 0, 0, errors=told)
        assert self.looks[file_id] >= self.unready, "a batch of a file that is not ready"
        for line in map(json.loads, self.files[file_id].splitlines()):
            self.asked[line["custom_id"]] += 1
            fate = self.fate(number, line)
            base = {"id": "r", "custom_id": line["custom_id"], "error": None}
            if fate == "ok":
                body = answer(line["body"])
                out.append(base | {"response": {"status_code": 200, "request_id": "x", "body": body}})
            elif fate in ("error", "refused"):
                status = {"error": 500, "refused": 400}[fate]
                errors.append(base | {"response": {"status_code": status, "request_id": "x", "body": {}}})
            elif fate == "unknown":
                stray = {"custom_id": "somebody-else", "response": {"status_code": 200, "body": {}}}
                out.append(base | stray)
        ids = {}
        for kind, rows in (("output_file_id", out), ("error_file_id", errors)):
            if rows:
                ids[kind] = f"file-{len(self.files)}"
                self.files[ids[kind]] = "".join(json.dumps(r) + "\n" for r in rows)
        status = "expired" if number in self.expire else "completed"
        status = "cancelled" if number in self.cancel else status
        return self.add(file_id, status, len(out), len(errors), **ids)

    def add(self, file_id: str, status: str, completed: int, failed: int, **more) -> dict:
        counts = {"total": completed + failed, "completed": completed, "failed": failed}
        batch = {
            "id": f"batch-{len(self.batches)}", "object": "batch", "endpoint": "/v1/chat/completions",
            "created_at": 0, "completion_window": "24h", "input_file_id": file_id, "status": status,
            "request_counts": counts, **more,
        }  # fmt: skip
        self.batches.append(batch)
        return batch


class BatchHandler(BaseHTTPRequestHandler):
    def do_POST(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/files":
            boundary = self.headers["Content-Type"].split("boundary=")[1].encode()
            part = next(p for p in data.split(b"--" + boundary) if b"filename=" in p)
            file_id = f"file-{len(self.server.files)}"
            self.server.files[file_id] = part.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n", 1)[0].decode()
            self.reply(self.about(file_id))
        else:
            self.reply(self.server.create(json.loads(data)["input_file_id"]))

    def about(self, file_id: str) -> dict:
        status = "processed" if self.server.looks[file_id] >= self.server.unready else "pending"
        known = {"id": file_id, "object": "file", "bytes": 1, "created_at": 0, "filename": "x"}
        return known | {"purpose": "batch", "status": status}

    def do_GET(self):
        parts = self.path.partition("?")[0].split("/")[2:]
        if parts[0] == "files" and len(parts) == 2:
            self.server.looks[parts[1]] += 1
            self.reply(self.about(parts[1]))
        elif parts[0] == "files":
            self.reply(
                self.server.files[parts[1]], cut=parts[1] not in self.server.cut and bool(self.server.cut)
            )
            self.server.cut |= {parts[1]} if self.server.cut else set()
        elif len(parts) == 2:
            number = int(parts[1].removeprefix("batch-"))
            if number >= len(self.server.batches):
                self.send_error(404)
            else:
                self.reply(self.server.batches[number])
        else:
            self.reply({"object": "list", "data": self.server.batches, "has_more": False})

    def reply(self, content, cut: bool = False) -> None:
        data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        self.close_connection = True

    def log_message(self, *args):
        pass


def batched(url: str, *more: str) -> profile.Profile:
    return live(
        url, "generate.backend=batch", "generate.poll_s=0.01", "generate.models={a: 0.5, b: 0.5}", *more
    )
