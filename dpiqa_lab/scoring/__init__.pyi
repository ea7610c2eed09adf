from .onnx_export import export_onnx as export_onnx
from .parquet_scores import score_parts as score_parts
