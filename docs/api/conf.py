"""How the pages of the Python interface are made from the docstrings: `make docs`."""

project = "fl-app"
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
default_role = "code"  # docstrings are written in Markdown's way: one backtick
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
html_theme = "alabaster"
html_theme_options = {"description": "The Python interface", "page_width": "1100px"}
html_show_sphinx = False
html_copy_source = False
