"""Read and write files in hloc's formats."""
