"""How long sizing takes: one estimate, one host, and sites from 1 to 1,000 GPUs (`python -m benchmarks.sizing`)."""
