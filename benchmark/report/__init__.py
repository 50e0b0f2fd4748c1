"""A result for people: the terminal's table, the HTML page and its figures."""
