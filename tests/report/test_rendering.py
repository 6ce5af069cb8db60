"""Tables as HTML, LaTeX and Markdown."""

import pandas as pd
from synthembed.report import rendering


def test_tables_are_escaped():
    frame = pd.DataFrame([{"system": "<script>alert(1)</script> & co_1", "Avg": 1.25, "none": float("nan")}])
    assert "<script>" not in rendering.to_html(frame)
    assert (
        r"co\_1" in rendering.latex(frame)
        and "1.2" in rendering.markdown(frame)
        and "–" in rendering.markdown(frame)
    )
