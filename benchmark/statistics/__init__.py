"""Goodness of fit of a histogram: pure statistics, without files or networks.

`histogram` checks counts and distribution; `chi_square` tests them and estimates the divergence D
with `intervals`, which holds every estimate's interval; `decomposition` and `coupled` split D over
the factors. The names below load on first use.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
