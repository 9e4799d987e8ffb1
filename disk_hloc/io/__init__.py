"""Files: images, hloc's h5 files, pairs, poses, COLMAP databases. No torch models in here."""
