"""The PyTorch ray tracer: the images that POV-Ray renders, traced in closed form on tensors."""
