"""Generators of NVlabs' StyleGAN family, from network pickles and state dicts."""
