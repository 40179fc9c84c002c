"""Formulas in TeX as MathML, which browsers and screen readers know without a script."""

import re

from docutils.utils.math import MathError, latex2mathml


def mathml(formula: str, *, as_block: bool) -> str:
    """Return a formula as MathML.

    Args:
        formula: in TeX, without dollars.
        as_block: on lines of its own, not within a line.

    Raises:
        ValueError: it holds what docutils does not know.
    """
    try:
        known = re.sub(r"\\dots\b", r"\\ldots", formula)  # of TeX's two words for it, docutils knows one
        return latex2mathml.tex2mathml(known, as_block=as_block)
    except MathError as error:
        raise ValueError(f"the formula {formula} cannot be shown: {error}") from error
