"""The commands of the program: each parses its arguments, calls the library and prints."""
