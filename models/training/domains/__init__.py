"""What a phase trains on: images, or embeddings of factors."""
