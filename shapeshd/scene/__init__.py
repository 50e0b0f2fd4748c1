"""The scene of an image: its text for POV-Ray, its numbers, and which factors to render."""
