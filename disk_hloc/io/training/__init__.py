"""Read and write training data sets in the format of DISK's release."""
