"""Pipelines of the diffusers library, from their folders."""
