"""What `bench/gpu_check.py` does, by subject."""
