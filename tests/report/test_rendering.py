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


def test_a_path_or_a_setting_is_text_in_latex():
    """As a folder of a model, or a dict that an ablation sets, stands in a row's name."""
    frame = pd.DataFrame([{"system": r"C:\models\new {'a': 1} ~$5 a<b", "Avg": 1.0}])
    text = r"C:\textbackslash{}models\textbackslash{}new \{'a': 1\} \textasciitilde{}\$5 a$<$b & 1.0"
    assert text in rendering.latex(frame)
