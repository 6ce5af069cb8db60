"""How a query is read: under an instruction, under a fixed word, or bare (Sec. 3.2, Table 5)."""

from __future__ import annotations

from synthembed.corpus.example import Example

TEMPLATE = "Instruct: {instruction}\nQuery: {text}"  # Sec. 3.2; no space after the line break


def with_instruction(instruction: str, text: str) -> str:
    """A query as the model reads it; documents go in as they are."""
    return TEMPLATE.format(instruction=instruction, text=text) if instruction else text


# Table 5, "w/ task type prefix": one fixed word in place of the instruction, by what a query is for. The one
# table for training's families and for mteb's task types.
FIXED_WORD = {"classification": "classify: ", "likeness": "", "search": "query: "}
PURPOSE = {
    "long-short": "classification", "sts": "likeness", "bitext": "likeness",
    "Classification": "classification", "STS": "likeness", "BitextMining": "likeness",
    "PairClassification": "likeness", "Summarization": "likeness",
}  # fmt: skip


def task_type_prefix(kind: str) -> str:
    """The fixed word before queries of a family of ours or a task type of mteb's."""
    return FIXED_WORD[PURPOSE.get(kind, "search")]


def query_text(example: Example, style: str) -> str:
    """The query side as the model reads it: instruction, task-type prefix, or bare (Table 5)."""
    if style == "natural":
        return with_instruction(example.instruction, example.query)
    if style == "task-type":
        return task_type_prefix(example.family) + example.query
    return example.query
