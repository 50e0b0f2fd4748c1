from .run import ExportResult as ExportResult
from .run import export_dataset as export_dataset
from .samples import block_name as block_name
from .samples import encode_png as encode_png
from .splits import parse_splits as parse_splits
