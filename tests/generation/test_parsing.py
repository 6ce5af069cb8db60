"""The reader of replies: what can be read in one way only is read, and nothing that is sent ends a run."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthembed.generation import cost, parsing
from synthembed.generation.items import SCHEMAS, Item
from synthembed.generation.parsing import Rejected
from synthembed.generation.reply_store import MOST_NESTED, ReplyStore, body_in, reply_line

STS, LISTS = Item("example", 1, "sts"), Item("brainstorm", 1, "sts")
GOOD = json.dumps({"S1": "sun 🌞", "S2": "b", "S3": "c"})
OTHER = GOOD.replace("b", "x")
HALF = '{"S1": "sun \\ud83d", "S2": "b", "S3": "c"}'


def reply(content) -> dict:
    return reply_line("id1", {"choices": [{"message": {"content": content}, "finish_reason": "stop"}]})


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        f"\ufeff {GOOD}\n",
        f"<think>\nNo: {{S1}}, rather {GOOD[:20]}\n</think>\n{GOOD}",
        f"a draft: {GOOD.replace('b', 'x')}</think>{GOOD}",  # a template that opens the tag in the prompt
        f"Here it is:\n```json\n{GOOD}\n```\nTell me if you {{need}} more!",
        f"{GOOD}\n\n{GOOD}",
        [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": GOOD[:9]}, {"type": "text", "text": GOOD[9:]}],
        [GOOD],
        f"[{GOOD}]",
        f"Here:\n[{GOOD}]",
        json.dumps(GOOD),
        json.dumps(f"[{GOOD}]"),
        f"{GOOD[:-1]},\n}}",
        f"[{GOOD[:-1]} , }},]",
        f'The 6" one:\n```json\n{GOOD[:-1]},}}\n```',
        json.dumps(f"{GOOD[:-1]},}}"),
        f"Here it is:\n```json\n{json.dumps(GOOD)}\n```",
        f"Here it is: {json.dumps(f' {GOOD[:-1]},}}')}, as you {{asked}} for.",
        f"{json.dumps(GOOD)}\n{GOOD}",
        f'An open "{{" first, then {json.dumps(json.dumps(json.loads(GOOD), indent=1))}',
        [{"type": "reasoning", "text": "{"}, {"type": "output_text", "text": GOOD}],
        f"[THINK]no: {OTHER}[/THINK]{GOOD}",
        f"◁think▷no: {OTHER}◁/think▷{GOOD}",
        f"<seed:think>no: {OTHER}</seed:think>{GOOD}",
        f"<|START_THINKING|>no: {OTHER}<|END_THINKING|><|START_RESPONSE|>{GOOD}<|END_RESPONSE|>",
        f"<|channel|>analysis<|message|>no: {OTHER}<|end|><|start|>assistant<|channel|>final <|constrain|>json"
        f"<|message|>{GOOD}<|return|>",
    ],
)  # fmt: skip
def test_one_answer_is_found(content):
    assert parsing.parse(reply(content), STS).S1 == "sun 🌞"


def called(*arguments, content=None) -> dict:
    line = reply(content)
    calls = [{"id": "t", "type": "function", "function": {"name": "f", "arguments": a}} for a in arguments]
    line["response"]["body"]["choices"][0] |= {"finish_reason": "tool_calls"}
    line["response"]["body"]["choices"][0]["message"]["tool_calls"] = calls
    return line


@pytest.mark.parametrize("line", [called(GOOD), called(json.loads(GOOD)), called(GOOD, content=" ")])
def test_a_call_of_one_tool_is_read_for_its_arguments(line):
    assert parsing.parse(line, STS).S1 == "sun 🌞"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (called(GOOD, GOOD.replace("b", "x")), "more than one answer"),
        (called(None), "empty reply"),
        (called("{"), "not JSON"),
        (called(GOOD, content="I would rather talk."), "not JSON"),
    ],
)
def test_calls_that_are_not_certain_are_counted_with_their_reason(line, reason):
    with pytest.raises(Rejected, match=f"^{reason}$"):
        parsing.parse(line, STS)


def test_commas_in_strings_stay_where_last_ones_are_passed_over():
    told = '{"S1": "a,}", "S2": "\\",]", "S3": "c, }",}'
    for text in (told, f'a 6" one: {told}'):
        assert parsing.parse(reply(text), STS).model_dump() == {"S1": "a,}", "S2": '",]', "S3": "c, }"}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (r'{"S1": "it\'s", "S2": "b", "S3": "c"}', "it's"),
        (r'Here: {"S1": "a\_b \\_ \\\' \"", "S2": "b", "S3": "c"}', "a_b \\_ \\' \""),
        (r'```json {"S1": "\\", "S2": "b", "S3": "c"} ``` isn\'t it?', "\\"),
    ],
)
def test_escapes_that_json_does_not_have_and_that_mean_one_thing_are_read(text, meant):
    assert parsing.parse(reply(text), STS).model_dump()["S1"] == meant


def ended(content, finish: str) -> dict:
    line = reply(content)
    line["response"]["body"]["choices"][0]["finish_reason"] = finish
    return line


def test_an_object_that_is_whole_at_the_limit_is_an_answer():
    """Servers that hold a model to a grammar may let it go on with blanks until max_tokens."""
    assert parsing.parse(ended(f"{GOOD}\n \n\n", "length"), STS).S1 == "sun 🌞"


@pytest.mark.parametrize(
    ("content", "finish", "reason"),
    [
        (GOOD[:-1], "length", "cut off at max_tokens"),
        (f"{GOOD} or rather", "length", "cut off at max_tokens"),
        (f"<think>{GOOD}", "length", "cut off at max_tokens"),
        ("7", "length", "cut off at max_tokens"),
        (None, "length", "cut off at max_tokens"),
        (GOOD[:9], "content_filter: RECITATION", "content filter"),
    ],
)
def test_what_was_broken_off_is_no_answer(content, finish, reason):
    with pytest.raises(Rejected, match=f"^{reason}$"):
        parsing.parse(ended(content, finish), STS)


def test_raw_newlines_inside_strings_are_read():
    assert parsing.parse(reply('{"S1": "a\n\tb", "S2": "b", "S3": "c"}'), STS).S1 == "a\n\tb"


@pytest.mark.parametrize(
    "content",
    [
        '["a", "b"]',
        'Sure:\n["a", "b"]',
        '["a", "b",]',
        '[{"tasks": ["a", "b",]}]',
        f"Sure:\n{json.dumps(json.dumps(['a', 'b'], indent=1))}",
        "Sure: " + json.dumps(json.dumps({"tasks": ["a", "b"]})),
        '{"tasks": ["a", "b", "a "]}',
    ],
)
def test_a_list_of_tasks_may_lack_its_key(content):
    assert parsing.tasks_of(reply(content), LISTS) == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (f"{GOOD} or else {GOOD.replace('b', 'x')}", "more than one answer"),
        (f"{GOOD} or else {json.dumps(GOOD.replace('b', 'x'))}", "more than one answer"),
        (f"Sure: {json.dumps('{}')} done", "not the schema"),
        ('{"S1": "a", "S1": "z", "S2": "b", "S3": "c"}', "more than one answer"),
        (HALF, "half a character"),
        (f"Sure: {HALF}", "half a character"),
        (f"<think> {GOOD}", "thoughts without an answer"),
        (f"[THINK] {GOOD}", "thoughts without an answer"),
        (f"<|channel|>analysis<|message|>{GOOD}", "thoughts without an answer"),
        ('{"S1": "\\alpha", "S2": "b", "S3": "c"}', "not JSON"),
        ("Sure: {} done", "not the schema"),
        ("{" * 100_000, "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"a":' * 50_000, "not JSON"),
        ("9" * 10_000, "not JSON"),
        ("NaN", "not the schema"),
        (f"[{GOOD}, {GOOD.replace('b', 'x')}]", "not the schema"),
        (f"[{GOOD}, {GOOD.replace('b', 'x')},]", "more than one answer"),
        (f"[[{GOOD}]]", "not the schema"),
        (json.dumps(json.dumps(GOOD)), "not the schema"),
        ('"a"', "not JSON"),
        ('{"S1": "a", "S2": "b", , "S3": "c"}', "not JSON"),
        ('{"S1": "a", "S2": "b", "S3": "c",,}', "not JSON"),
        ('{"S1": "a", "S1": "z", "S2": "b", "S3": "c",}', "more than one answer"),
        ([{"type": "image"}, None, 3], "empty reply"),
        (17, "empty reply"),
    ],
)
def test_what_is_not_certain_is_counted_with_its_reason(content, reason):
    with pytest.raises(Rejected, match=f"^{reason}$"):
        parsing.parse(reply(content), STS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("\ud83d"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)
KEYED = st.fixed_dictionaries({}, optional={
    "choices": JSON | st.lists(st.fixed_dictionaries({}, optional={
        "message": JSON | st.fixed_dictionaries({}, optional={"content": JSON, "refusal": JSON}),
        "finish_reason": JSON,
    }), max_size=2),
    "usage": JSON | st.fixed_dictionaries({}, optional={"prompt_tokens": JSON, "completion_tokens": JSON}),
    "model": JSON,
})  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(KEYED, st.sampled_from([STS, LISTS]))
def test_no_body_ends_a_run(tmp_path_factory, body, item):
    """Whatever a gateway sends: it is stored and read back as it is, priced, and read or counted."""
    found = body_in(json.dumps(body).encode())
    if found is None:
        return
    line = reply_line("id1", found)
    path = tmp_path_factory.mktemp("store") / "replies.jsonl"
    store = ReplyStore(path)
    store.append(line)
    store.close()
    assert list(store.lines()) == [line]
    assert cost.Meter(None, {"gpt-4": 1.0}, False).cost(line) >= 0
    try:
        parsing.parse(line, item)
    except Rejected as reason:
        assert str(reason)


@settings(max_examples=300, deadline=None)
@given(st.text() | st.text(alphabet='{}[]":,\\ntrue0ud83 </think>`'), st.sampled_from(list(SCHEMAS)))
def test_no_text_ends_a_run(text, kind):
    try:
        parsing.read(text, SCHEMAS[kind])
    except Rejected as reason:
        assert str(reason)


@settings(max_examples=200, deadline=None)
@given(
    st.text(alphabet=st.characters(exclude_characters='{}[]<>"', codec="utf-8")), st.text(alphabet="abc .\n`")
)
def test_prose_around_an_answer_does_not_hide_it(before, after):
    assert parsing.read(before + GOOD + after, SCHEMAS["sts"]).S2 == "b"


@given(st.binary() | st.binary().map(lambda b: b'{"choices": [' + b + b"]}"))
def test_no_bytes_end_a_run(content):
    assert isinstance(body_in(content), dict | None)


def test_the_halves_of_an_emoji_written_one_by_one_are_joined():
    halves = '{"choices": ["\ud83c\udf1e"]}'.encode("utf-8", "surrogatepass")
    assert body_in(halves) == {"choices": ["🌞"]}


def test_what_is_nested_too_deep_to_be_read_anywhere_is_not_stored():
    deep = b'{"choices": ' + b"[" * MOST_NESTED * 2 + b"]" * MOST_NESTED * 2 + b"}"
    assert body_in(deep) is None
    assert body_in(b'{"choices": [' + b"[],{}," * 300 + b"[]]}") is not None


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 3}, (7, 3)),
        ({"prompt_tokens": -7, "completion_tokens": "3"}, (0, 0)),
        ({"prompt_tokens": 10**400, "completion_tokens": float("nan"), "total_tokens": 9}, (0, 9)),
        ([1], (0, 0)),
        (None, (0, 0)),
    ],
)
def test_usage_is_read_as_far_as_it_is_one(usage, tokens):
    assert cost.tokens_in(usage) == tokens


def test_a_whole_last_line_that_lacks_its_end_is_kept(tmp_path):
    path = tmp_path / "replies.jsonl"
    path.write_bytes(
        b'{"custom_id": "a", "response": {"body": {}}}\n{"custom_id": "b", "response": {"body": {}}}'
    )
    store = ReplyStore(path)
    assert store.ids == {"a", "b"}
    store.append(reply_line("c", {}))
    store.close()
    assert [x["custom_id"] for x in store.lines()] == ["a", "b", "c"]
