"""Settings of Sphinx for `python course.py site`: the notebooks as they are stored, without a network."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

project = html_title = "Build a GPT from scratch"
language = "en"
extensions = ["myst_nb", "sphinx_copybutton", "shared.site.hooks"]
root_doc = "README"
exclude_patterns = [".git", ".venv", "runs", "data/cache", "tests", "**/.ipynb_checkpoints"]

nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath", "html_image", "attrs_inline"]
myst_heading_anchors = 4
myst_heading_slug_func = "shared.site.pages.anchor"

html_theme = "sphinx_book_theme"
html_theme_options = {
    "home_page_in_toc": True,
    "show_toc_level": 2,
    "toc_title": "On this page",
    "extra_footer": "Code: MIT. Prose and figures: CC BY 4.0. Data and models: CC0.",
    "footer_content_items": "extra-footer.html",
    "use_download_button": True,
    "use_fullscreen_button": False,
    # the theme beneath has a header of its own, with a second search
    "navbar_start": [],
    "navbar_center": [],
    "navbar_end": [],
    "navbar_persistent": [],
}
html_favicon = str(ROOT / "shared" / "commands" / "serve_page" / "icon.svg")
html_static_path, templates_path = ["static"], ["templates"]
html_css_files = ["course.css"]
html_js_files = ["course.js"]
html_math_renderer = "mathml"
html_sourcelink_suffix = ""  # a notebook is downloaded under its own name
html_show_search_summary = False  # for it, the page of the search would have to read the others, which file:// forbids
html_show_sphinx = html_show_copyright = False
