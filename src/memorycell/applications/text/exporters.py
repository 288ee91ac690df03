"""Export of text models."""

from memorycell.language.exporters import OnnxExporter

EXPORTERS = {"onnx": OnnxExporter()}
