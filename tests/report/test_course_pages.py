"""Outputs of executed notebooks as the site shows them."""

from synthembed.report.web import course


def shown(page: str) -> str:
    output = {"data": {"text/html": page}}
    course._output(output)
    return output["data"]["text/html"]


def test_what_brings_colours_of_its_own_stays_on_a_light_card():
    for coloured in (
        '<p style="color:#767676">late</p>',
        '<span style="background:rgba(0,114,178,.25)">word</span>',
        '<svg><rect fill="#000"/></svg>',
        "<style>#T_1 td { background-color: #fff }</style><table><tr><td>1</td></tr></table>",
    ):
        assert "for-light" in shown(coloured).partition(">")[0], coloured
    assert shown("<p>a colour is named in words</p>") == "<p>a colour is named in words</p>"
    plain = shown("<table><tr><td>1</td></tr></table>")
    assert plain.startswith('<div class="report">') and "for-light" not in plain


def test_a_link_to_a_notebook_leads_to_its_page():
    assert shown('<a href="../x/03_train.ipynb#Loss">loss</a>') == '<a href="03_train.html">loss</a>'
