"""The scene as POV-Ray reads it; its numbers, those of `light.inc` too, stand in `constants.inc`.

Even a comment in these files changes the scene's digest, by which datasets are told apart.
"""
