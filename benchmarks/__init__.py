"""What Regionflow is compared with, measured side by side: ``python -m benchmarks [NAME …]``."""
