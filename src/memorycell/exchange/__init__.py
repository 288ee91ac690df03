"""Import from Keras and ONNX; export to ONNX and C99."""
