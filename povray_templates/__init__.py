"""The scene as POV-Ray source files; ``scene.pov`` renders one image by hand."""
