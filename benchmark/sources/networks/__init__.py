"""Generators that run in this process: TorchScript, torch.export, ONNX, safetensors, callables."""
