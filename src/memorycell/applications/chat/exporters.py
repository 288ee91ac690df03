"""Export of chat models."""

from memorycell.language.exporters import OnnxExporter

EXPORTERS = {"onnx": OnnxExporter()}
