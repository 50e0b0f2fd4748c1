"""Goodness of fit of a histogram: pure statistics, without files or networks."""
