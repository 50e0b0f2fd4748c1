"""Trains the reference models: a run of phases, each resumable."""
