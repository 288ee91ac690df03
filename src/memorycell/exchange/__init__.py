"""Models that leave the house, and layers that come into it: ONNX both ways, C99 out, Keras in."""
