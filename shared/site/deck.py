"""Slides as one HTML file that holds everything: reveal.js, styles, pictures, formulas as MathML."""

from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

from shared.site.formulas import mathml
from shared.site.slides import Slide, plain

PAGES = Path(__file__).resolve().parent / "deck_page"


def reveal(name: str) -> str:
    """Return a file of reveal.js, which comes with the package sphinx-revealjs, so that it may stand within a page.

    Args:
        name: below the folder of reveal.js.
    """
    home = files("sphinx_revealjs") / "_static" / "revealjs"
    return home.joinpath(name).read_text(encoding="utf-8").replace("</script", r"<\/script")


@cache
def _markdown() -> MarkdownIt:
    def colored(code: str, language: str, _: str) -> str:
        return highlight(code, get_lexer_by_name(language or "text"), HtmlFormatter(nowrap=True))

    def formula(tex: str, options: dict) -> str:
        return mathml(tex, as_block=options["display_mode"])

    reader = MarkdownIt("commonmark", {"html": True, "highlight": colored}).enable("table")
    reader.validateLink = lambda url: True  # type: ignore[method-assign]  # pictures are part of the page, SVG too
    return reader.use(dollarmath_plugin, renderer=formula)


def html(markdown: str) -> str:
    """Return a text as HTML.

    Args:
        markdown: with formulas between dollars.
    """
    return _markdown().render(markdown)


def page(title: str, slides: list[Slide]) -> str:
    """Return the deck of a chapter.

    Args:
        title: of the page.
        slides: in order.
    """
    return _template("deck.html").render(title=plain(title), slides=slides, html=html, plain=plain, reveal=reveal)


def contents(decks: dict[str, str]) -> str:
    """Return the page that leads to the decks.

    Args:
        decks: name of the file -> title.
    """
    return _template("index.html").render(decks=decks)


def _template(name: str):
    return Environment(loader=FileSystemLoader(PAGES), trim_blocks=True, lstrip_blocks=True).get_template(name)
