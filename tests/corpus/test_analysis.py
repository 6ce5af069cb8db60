"""What notebook 02 shows of a corpus: gaps are seen, samples are always the same."""

from made_examples import make
from synthembed import profile
from synthembed.corpus import analysis
from synthembed.generation import two_steps
from synthembed.profile.taxonomy import FAMILIES


def test_coverage_names_values_that_were_never_asked_for(tmp_path):
    p = profile.load("smoke")
    two_steps.generate(p, tmp_path)
    items = two_steps.read_items(tmp_path)
    found = analysis.coverage(items, p.generate.placeholders)
    examples = [item for item in items.values() if item.step == "example"]
    words = found[(found.family == "short-long") & (found.placeholder == "num_words")]
    assert list(words["value"]) == ["50", "100"]
    assert words["requests"].sum() == sum(item.family == "short-long" for item in examples)
    more = analysis.coverage(items, p.generate.placeholders | {"short-long": {"num_words": [50, 100, 9000]}})
    assert list(more[more.value == "9000"]["requests"]) == [0]


def test_one_sample_of_each_family_and_always_the_same():
    found = [make(n, f"q{n}", "p", family=f) for n, f in enumerate(FAMILIES * 3)]
    shown = analysis.samples(found)
    assert list(shown["family"]) == list(FAMILIES) and shown.equals(analysis.samples(found[::-1]))
