"""Pretrained networks of the literature, whose features images can be compared by."""
