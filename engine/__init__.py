"""The build side: networks in torch, their training, and their export to ONNX.

Nothing under `howard/` imports this package, and it is not part of the wheel.
"""
