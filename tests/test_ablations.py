"""Ablations: what they fill, their runs, and what is skipped."""

import pytest
from synthembed import ablations, profile
from synthembed.profile import ProfileError


def planned(*rows: dict) -> profile.Profile:
    return profile.Profile(name="x", ablations={"rows": list(rows)})


@pytest.mark.parametrize("name", ["smoke", "laptop", "gpu", "paper"])
def test_shipped_ablations_fill_rows_that_the_paper_has(name):
    ablations.check(profile.load(name))


@pytest.mark.parametrize(
    ("fills", "said"),
    [
        ({"table55": "w/ mean pool"}, "'table55', which is none of table1, table2"),
        ({"table5": "w/ max pool"}, "row 'w/ max pool' of table5, which has: E5_mistral-7b"),
    ],
)
def test_what_the_paper_does_not_have_cannot_be_filled(fills, said):
    with pytest.raises(ProfileError, match=said):
        ablations.check(planned({"id": "a", "fills": fills}))
