"""How good single images are, beside the score of their distribution."""
