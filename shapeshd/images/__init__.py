"""Encoded images as tensors: folders, archives and LMDBs of images, decoded and resized."""
