"""Coverage-guided fuzzing of all that reads what an endpoint sends, with atheris (``pip install atheris``):

    PYTHONPATH=lib python tests/generation/fuzz_replies.py -max_total_time=300 [folder of inputs to go on with]

An input is bytes of a body, of a stream, of a line of a batch's output, or of a reply's text within a body that
is well formed otherwise. Nothing may be raised but Rejected with its reason; what is stored must come back as it
was; and what is read as an answer must be what any other reader makes of it.
"""

import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["synthembed"]):
    from synthembed.generation import cost, openai_batch, parsing, reply_store
    from synthembed.generation.items import SCHEMAS
    from synthembed.generation.paid import streamed

GOOD = {
    name: json.dumps({key: ["one", "two"] if name == "brainstorm" else f"{key} 🌞" for key in schema.model_fields})
    for name, schema in SCHEMAS.items()
}  # fmt: skip
STORED_AT_ONCE = 200
METER = cost.Meter(None, {"gpt-4o": 1.0}, False)


class Stored:
    """A store of the last lines, which must come back as they were put in."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
        self.lines: list[dict] = []
        self.store = reply_store.ReplyStore(self.folder / "replies.jsonl")

    def add(self, found: dict) -> dict:
        line = reply_store.reply_line(f"id{len(self.lines)}", found)
        assert self.store.append(line), "a reply was taken for one that is stored"
        self.lines.append(line)
        if len(self.lines) == STORED_AT_ONCE:
            self.store.close()
            assert list(self.store.lines()) == self.lines, "what was stored is read otherwise"
            assert reply_store.ReplyStore(self.store.path).ids == {one["custom_id"] for one in self.lines}
            self.store.path.unlink()
            self.__init__()
        return line


STORED = Stored()


def body_around(content, finish="stop") -> bytes:
    message = {"role": "assistant", "content": content}
    return json.dumps({"choices": [{"message": message, "finish_reason": finish}]}).encode()


def stream_around(text: str) -> bytes:
    half = len(text) // 2
    pieces = [{"choices": [{"delta": {"content": part}}]} for part in (text[:half], text[half:])]
    pieces.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    return "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces).encode()


def text_of(data: atheris.FuzzedDataProvider) -> str:
    """What is left of an input as text; bytes that are no UTF-8 are half characters."""
    return data.ConsumeBytes(sys.maxsize).decode("utf-8", "surrogateescape")


def bodies(kind: int, data: atheris.FuzzedDataProvider):
    """What one input is a body of, by its first byte."""
    if kind == 0:
        yield data.ConsumeBytes(sys.maxsize)
    elif kind == 1:
        yield streamed.joined(data.ConsumeBytes(sys.maxsize))
    else:
        text = text_of(data)
        yield body_around(text)
        yield streamed.joined(stream_around(text))
        yield body_around([{"type": "thinking", "thinking": text}, {"type": "text", "text": text}])


def one_input(raw: bytes) -> None:
    data = atheris.FuzzedDataProvider(raw)
    kind, name = data.ConsumeIntInRange(0, 3), data.PickValueInList(list(SCHEMAS))
    if kind == 3:  # a reply's text, as it is
        with contextlib.suppress(parsing.Rejected):
            answer = parsing.read(text_of(data), SCHEMAS[name])
            told = answer.model_dump_json()
            assert parsing.read(told, SCHEMAS[name]) == answer == SCHEMAS[name].model_validate_json(told)
        return
    for content in bodies(kind, data):
        found = reply_store.body_in(content)
        if found is None:
            continue
        openai_batch._refusal(found)  # a batch's output line is read by the same reader
        line = STORED.add(found)
        assert 0 <= METER.cost(line) < float("inf")
        try:
            parsing.read(parsing.content_of(line), SCHEMAS[name])
        except parsing.Rejected as reason:
            assert str(reason)


def seeds(folder: Path) -> None:
    """What there is to begin with: good answers, as they come and as models dress them up."""
    folder.mkdir(exist_ok=True)
    for number, text in enumerate(GOOD.values()):
        for kind, content in enumerate(
            (body_around(text), stream_around(text), text.encode(), text.encode())
        ):
            (folder / f"{number}-{kind}").write_bytes(content + bytes([number, kind]))
    dressed = f"<think>{{}}</think>Here:\n```json\n{GOOD['sts']}\n```"
    (folder / "dressed").write_bytes(dressed.encode() + bytes([5, 3]))


if __name__ == "__main__":
    folders = [word for word in sys.argv[1:] if not word.startswith("-")]
    if not folders:
        sys.argv.append(tempfile.mkdtemp())
    seeds(Path(sys.argv[-1]))
    words = Path(tempfile.mkdtemp()) / "words"
    words.write_text(
        "".join(f'"{word}"\n' for word in (
            "<think>", "</think>", "```json", "data:", "data: [DONE]", "\\\\ud83d", "S1", "tasks", "user_query", "choices",
            "message", "content", "refusal", "usage", "prompt_tokens", "NaN", "1e999",
        ))
    )  # fmt: skip
    atheris.Setup(
        [sys.argv[0], "-max_len=4096", "-len_control=0", f"-dict={words}", *sys.argv[1:]], one_input
    )
    atheris.Fuzz()
