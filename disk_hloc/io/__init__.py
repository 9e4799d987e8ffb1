"""Read and write files: images, hloc's h5 files, pairs, poses, COLMAP's databases and models."""
