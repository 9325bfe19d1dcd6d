"""Sphinx's configuration of the site: `docs/build` builds it.

Pages are the Markdown files of this folder, the gallery is examples/, executed, and the API is
listed by the modules themselves. Formulas are MathML (`formulas.py`). FASTLSGD_DOCS_ONLINE=1
links to the documentation of NumPy and others, for which their inventories are fetched; by default
nothing needs the network, neither the build nor the reader.
"""

from __future__ import annotations

import ast
import importlib
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from pygments.lexers.special import TextLexer

import fastlsgd

HERE = Path(__file__).parent
GENERATED = HERE / "generated"
EXAMPLES = HERE.parent / "examples"
ONLINE = os.environ.get("FASTLSGD_DOCS_ONLINE") == "1"

project = "fastlsgd"
author = "The fastlsgd developers"
copyright = author
version = release = fastlsgd.__version__

sys.path.insert(0, str(HERE))  # for formulas.py and programs.py

extensions = [
    "formulas",
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx_gallery.gen_gallery",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "**sg_execution_times*", "generated/examples"]
templates_path = ["_templates"]

# ------------------------------------------------------------------------------------- pages

html_math_renderer = "mathml"
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4
# Pages link to files of the clone outside this folder, which are no pages of the site.
suppress_warnings = ["myst.xref_missing"]

# --------------------------------------------------------------------------------------- API

numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
autosummary_generate = True
autodoc_typehints = "none"

# The public modules, and what each is about. One that needs a package which is not installed here
# is left out.
MODULES = {
    "fastlsgd": "Estimators, functions and settings",
    "fastlsgd.optimizers": "Optimizers and schedules",
    "fastlsgd.streaming": "Streams",
    "fastlsgd.sklearn": "scikit-learn's classes",
    "fastlsgd.plotting": "Pictures",
    "fastlsgd.datasets": "The house sales",
    "fastlsgd.dask": "Dask",
    "fastlsgd.torch": "PyTorch",
    "fastlsgd.jax": "JAX",
}


def public_names(module_name: str) -> list[str]:
    """The functions and classes that a module lists in `__all__`."""
    try:
        module = importlib.import_module(module_name)
    except ImportError:
        return []
    return [name for name in module.__all__ if callable(getattr(module, name))]


def write_api() -> None:
    """Write generated/api.rst, which lists all public names with their summaries."""
    lines = ["API", "===", ""]
    for module_name, title in MODULES.items():
        names = public_names(module_name)
        if not names:
            continue
        lines += [title, "-" * len(title), "", f".. currentmodule:: {module_name}", ""]
        lines += [".. autosummary::"]
        if module_name != "fastlsgd.sklearn":  # scikit-learn documents its own classes
            lines += ["   :toctree: api"]
        lines += [""]
        lines += [f"   {name}" for name in names] + [""]
    GENERATED.mkdir(exist_ok=True)
    (GENERATED / "api.rst").write_text("\n".join(lines), "utf-8")


write_api()

# Pages that the start page lists by name. index.zh lists those in Chinese, and reference.md all
# others.
FIRST_PAGES = {"index", "guide", "how_it_works", "migration", "faq"}


def write_reference() -> None:
    """Write generated/reference.md, which lists the pages that say everything about one subject."""
    pages = sorted(path.stem for path in HERE.glob("*.md") if not path.stem.endswith(".zh"))
    lines = [
        "# Reference",
        "",
        "Each page says in detail what fastlsgd does in one subject, how fast, and its limits.",
        "",
        "```{toctree}",
        ":maxdepth: 1",
        "",
        *(f"../{page}" for page in pages if page not in FIRST_PAGES),
        "```",
        "",
    ]
    (GENERATED / "reference.md").write_text("\n".join(lines), "utf-8")


write_reference()

# ----------------------------------------------------------------------------------- gallery

PROGRAMS = GENERATED / "examples"


def belongs_to_gallery(program: Path) -> bool:
    """Whether its docstring has a title; those of other scripts, such as servers, have none."""
    docstring = ast.get_docstring(ast.parse(program.read_text("utf-8"))) or ""
    return docstring.partition("\n")[2].startswith("====")


def can_run(program: Path) -> bool:
    """Whether all packages that it imports at its top, or tries to, are installed."""
    names, body = set(), ast.parse(program.read_text("utf-8")).body
    tried = [node for part in body if isinstance(part, ast.Try) for node in part.body]
    for node in (*body, *tried):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return all(find_spec(name.partition(".")[0]) for name in names)


def copy_programs() -> list[str]:
    """Copy the gallery to where it may leave its pictures; return what cannot run here."""
    shutil.rmtree(PROGRAMS, ignore_errors=True)
    PROGRAMS.mkdir(parents=True)
    chosen = [path for path in EXAMPLES.glob("*.py") if belongs_to_gallery(path)]
    for path in (*chosen, EXAMPLES / "GALLERY_HEADER.rst", EXAMPLES / "keras_program.json"):
        shutil.copy2(path, PROGRAMS)
    return [path.stem for path in chosen if not can_run(path)]


NOT_EXECUTED = copy_programs()
sphinx_gallery_conf = {
    "examples_dirs": str(PROGRAMS),
    "gallery_dirs": "generated/programs",
    "filename_pattern": rf"/(?!(?:{'|'.join(NOT_EXECUTED) or 'none'})\.py$)[^/]+\.py$",
    "within_subsection_order": "programs.TutorialOrder",
    "download_all_examples": False,
    "remove_config_comments": True,
    "abort_on_example_error": True,
    "plot_gallery": "True",
    "reference_url": {"fastlsgd": None},
    "show_memory": False,
    "capture_repr": (),
}

# ------------------------------------------------------------------------------------- links

intersphinx_mapping = {
    "python": ("https://docs.python.org/3", None),
    "numpy": ("https://numpy.org/doc/stable", None),
    "scipy": ("https://docs.scipy.org/doc/scipy", None),
    "sklearn": ("https://scikit-learn.org/stable", None),
}
if not ONLINE:
    intersphinx_mapping = {}

# -------------------------------------------------------------------------------------- look

html_theme = "pydata_sphinx_theme"
html_title = "fastlsgd"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": False,
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}


def setup(app):
    # GitHub draws these; here they are shown as text.
    app.add_lexer("mermaid", TextLexer)
