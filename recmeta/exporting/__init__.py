"""A model and its users in forms that other programs read: ONNX graphs, vectors, a static page."""
