"""A Sphinx extension: formulas as MathML, which browsers draw themselves; no script, no font, no network."""

from __future__ import annotations

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError


def setup(app: Sphinx) -> dict:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _inline(writer, node: nodes.math) -> None:
    writer.body.append(_mathml(writer, node))
    raise nodes.SkipNode


def _block(writer, node: nodes.math_block) -> None:
    formula = _mathml(writer, node, as_block=True)
    writer.body.append(
        f'<div class="math scroll" tabindex="0" role="region" aria-label="Formula">{formula}</div>'
    )
    raise nodes.SkipNode


def _mathml(writer, node: nodes.Element, **how) -> str:
    formula = node.astext()
    try:
        return tex2mathml(formula.replace(r"\dots", r"\ldots"), **how)  # which docutils does not know
    except MathError as problem:
        page = writer.builder.current_docname
        raise ExtensionError(f"{page}: no MathML for {formula!r}: {problem}; write it otherwise") from problem
