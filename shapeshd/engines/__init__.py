"""Turn factors into images: by POV-Ray, the reference, or by the ray tracer."""

from .engine import ENGINES, Engine, engine_named, is_scene_installed
from .povray import render_images

__all__ = ["ENGINES", "Engine", "engine_named", "is_scene_installed", "render_images"]
