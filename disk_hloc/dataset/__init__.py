"""Make training data sets for DISK: from COLMAP models, rendered, downloaded, or merged."""
