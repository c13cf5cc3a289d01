"""Checkpoint to bundle: ONNX graphs built from weights, validated against PyTorch."""
