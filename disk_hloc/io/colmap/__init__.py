"""COLMAP's databases and models."""
