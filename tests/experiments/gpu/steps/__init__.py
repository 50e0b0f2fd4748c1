"""What the steps of the run do: programs that write a JSON file, and what these share."""
