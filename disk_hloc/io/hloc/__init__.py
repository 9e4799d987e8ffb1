"""Files in hloc's formats."""
