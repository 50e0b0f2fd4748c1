"""What every training has: a loop that can be stopped and taken up, its state, its log."""
