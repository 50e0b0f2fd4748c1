"""A result for people: the terminal's table, the HTML page and its figures.

The names below load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "html": ["report_page", "write_report"],
        "terminal": ["describe"],
    },
)

if TYPE_CHECKING:
    from .html import report_page as report_page
    from .html import write_report as write_report
    from .terminal import describe as describe
