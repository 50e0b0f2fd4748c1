"""The PyTorch ray tracer: the images that POV-Ray renders, traced in closed form on tensors."""

from .tracer import RayTracer, trace_images

__all__ = ["RayTracer", "trace_images"]
