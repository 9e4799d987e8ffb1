"""Files of benchmarks: known cameras and poses."""
