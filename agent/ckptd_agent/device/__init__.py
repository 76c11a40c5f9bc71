"""What lies on CUDA devices: copied aside there, and brought over behind training."""
