"""The dataset: shards, manifest and PyTorch dataset, and what reads, shows and exports them."""
