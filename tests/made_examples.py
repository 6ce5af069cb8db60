"""Examples and a text that tests of the corpus share."""

from synthembed.corpus.example import Example


def make(
    number: int, query: str, positive: str, negative=None, family="short-long", language="en", target=""
):
    return Example(f"e{number}", family, "task", language, target, query, positive, negative)


LONG = "The ferry to the northern islands leaves at seven in the morning and takes about three hours in calm weather"
