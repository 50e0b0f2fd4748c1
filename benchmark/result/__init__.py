"""The result of a score: its schema, how it is built and read, and its verdict."""
