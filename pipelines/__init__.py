"""Pipelines: stages composed, and nothing else."""
