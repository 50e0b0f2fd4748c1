"""What several rooms need: atomic files, checkpoints, run state, progress, random numbers."""
