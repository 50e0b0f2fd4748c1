"""A dataset on disk, or made as it is read: shards, manifest, reading, export, preview.

What reads images as tensors loads on first use, so that rendering does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "export": ["ExportResult", "export_dataset"],
        "info": ["describe_dataset"],
        "manifest": ["Manifest", "ShardEntry", "load_manifest", "write_manifest"],
        "preview": ["preview_dataset", "preview_sweep", "preview_table"],
        "render_spec": ["RenderSpec", "parse_rendered"],
        "shapes_hd": ["ShapesHD", "open_dataset"],
        "shards": ["Provenance", "ShardHeader", "ShardWriter", "check_shard", "read_header"],
    },
)

if TYPE_CHECKING:
    from .export import ExportResult as ExportResult
    from .export import export_dataset as export_dataset
    from .info import describe_dataset as describe_dataset
    from .manifest import Manifest as Manifest
    from .manifest import ShardEntry as ShardEntry
    from .manifest import load_manifest as load_manifest
    from .manifest import write_manifest as write_manifest
    from .preview import preview_dataset as preview_dataset
    from .preview import preview_sweep as preview_sweep
    from .preview import preview_table as preview_table
    from .render_spec import RenderSpec as RenderSpec
    from .render_spec import parse_rendered as parse_rendered
    from .shapes_hd import ShapesHD as ShapesHD
    from .shapes_hd import open_dataset as open_dataset
    from .shards import Provenance as Provenance
    from .shards import ShardHeader as ShardHeader
    from .shards import ShardWriter as ShardWriter
    from .shards import check_shard as check_shard
    from .shards import read_header as read_header
