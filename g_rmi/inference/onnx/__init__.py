"""The whole method in ONNX's own operators: pictures in, people out, without jax."""
