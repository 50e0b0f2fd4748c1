"""The command line: a lazy click group, and a file for each command."""
