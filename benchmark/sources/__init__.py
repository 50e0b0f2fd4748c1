"""What can be scored: a record for each kind of source, loaded when it is needed."""
