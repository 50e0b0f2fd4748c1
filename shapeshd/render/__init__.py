"""Rendering a dataset: plan, shards in parallel on one machine or a cluster, engines, POV-Ray."""
