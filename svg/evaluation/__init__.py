"""The measurements that eval.py takes: scores of rollouts, bounds, calibration, diagnostics of latents."""
