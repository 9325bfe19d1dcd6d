"""Formulas as MathML, written when the site is built: a Sphinx extension.

Browsers draw MathML by themselves, so that pages need no script and no network. Sphinx's own
MathJax is 2 MB of scripts, fetched from another site when a page is opened.
"""

from __future__ import annotations

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


def mathml(node: nodes.Node, display: str) -> str:
    """The formula of a node; a warning where it has what latex2mathml does not know."""
    text = node.astext().replace("{aligned}", "{split}")  # the same, but it knows the latter only
    if r"\\" in text and r"\begin" not in text:  # several lines
        text = rf"\begin{{split}}{text}\end{{split}}"
    formula = convert(text, display=display)
    if "\\" in formula or "<mi>&</mi>" in formula:
        logger.warning("latex2mathml does not know all of this formula: %s", text, location=node)
    return formula


def visit_math(translator, node: nodes.math) -> None:
    translator.body.append(mathml(node, "inline"))
    raise nodes.SkipNode


def visit_math_block(translator, node: nodes.math_block) -> None:
    # A wide formula is scrolled by itself: the page stays as wide as the screen.
    translator.body.append(f'<div class="formula">{mathml(node, "block")}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
