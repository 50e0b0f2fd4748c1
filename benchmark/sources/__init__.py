"""What can be scored: one file per kind of source."""
