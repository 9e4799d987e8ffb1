"""Data sets to train DISK on: from COLMAP models, from drawn scenes, DISK's own, and merged."""
