"""Several results side by side: compared, ranked, written as tables and entries."""
