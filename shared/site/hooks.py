"""What Sphinx has no setting for: which pages there are, formulas as MathML, texts for figures, glossary, quizzes."""

import json
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

from shared.site import pages, quiz
from shared.site.formulas import mathml

log = logging.getLogger(__name__)


def choose_pages(app: Sphinx, config) -> None:
    """Take the README, the notebooks that it lists and the pages behind them; a learner's own notebooks stay out."""
    root, chapters = Path(app.srcdir), pages.chapters(Path(app.srcdir))
    notebooks = [f"{page}.ipynb" for group in chapters.values() for page in group]
    asked = [f"{page}.toml" for page in (pages.quiz_page(folder, root) for folder in chapters) if page]
    config.include_patterns = ["README.md", *notebooks, *asked, *(f"{page}.md" for page in pages.further(root))]


def complete(app: Sphinx, page: str, source: list[str]) -> None:
    """Mend the links of a page that is about to be read, and add what is worked out from the others."""
    root, path = Path(app.srcdir), app.env.doc2path(page)
    if path.suffix == ".ipynb":
        notebook = json.loads(source[0])
        for cell in notebook["cells"]:
            cell["source"] = pages.mend_links("".join(cell["source"]), path.parent)
        notebook["cells"][0]["source"] += pages.how_to_run(page)
        source[0] = json.dumps(notebook)
        return
    if path.suffix == ".toml":
        source[0] = quiz.page(path, next(folder for folder in pages.chapters(root) if folder.startswith(path.stem)))
        return
    source[0] = pages.mend_links(source[0], path.parent)
    if page == app.config.root_doc:
        source[0] += pages.contents(root)
    if page == pages.GLOSSARY:
        source[0] += "\n" + pages.glossary(root)


def give_figures_a_text(app: Sphinx, doctree: nodes.document) -> None:
    """Put the words of each stored figure behind it, where it has none yet."""
    path = Path(app.srcdir) / app.env.doc2path(app.env.docname, base=False)
    if path.suffix == ".ipynb":
        said = iter(pages.figure_texts(pages.read_notebook(path)))
        for image in doctree.findall(nodes.image):
            if "alt" not in image:
                image["alt"] = next(said)


def _mathml(node: nodes.math | nodes.math_block, as_block: bool) -> str:
    try:
        return mathml(node.astext(), as_block=as_block)
    except ValueError as error:
        log.warning("%s", error, location=node)
        return f"<code>{escape(node.astext())}</code>"


def write_inline(writer, node: nodes.math) -> None:
    """Write a formula within a line."""
    writer.body.append(_mathml(node, as_block=False))
    raise nodes.SkipNode


def write_block(writer, node: nodes.math_block) -> None:
    """Write a formula on lines of its own; a long one is scrolled by itself, with the keyboard too."""
    writer.body.append(f'<div class="formula" tabindex="0">{_mathml(node, as_block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict:
    """Tell Sphinx of all this."""
    app.add_source_suffix(".toml", "myst-nb")  # the questions of a quiz, which become Markdown as they are read
    app.add_html_math_renderer("mathml", inline_renderers=(write_inline, None), block_renderers=(write_block, None))
    app.connect("config-inited", choose_pages)
    app.connect("source-read", complete)
    app.connect("doctree-read", give_figures_a_text)
    return {"parallel_read_safe": False}
