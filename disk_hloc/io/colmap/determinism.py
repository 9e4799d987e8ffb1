"""What makes COLMAP return the same result each time.

Its random number generators need a seed, and sums of floats depend on the number of threads: with
one thread models are equal to the bit, with more they differ in their last digits and by some
points. One thread maps Sacre Coeur (10 images) as fast as two do, in 4 seconds. Large models need
all cores, so one thread is for small ones only. Verified matches need the seed alone.
"""

from __future__ import annotations

import os

SEED = 0
_MAX_IMAGES_OF_ONE_THREAD = 50
_MAX_THREADS = 16


def num_threads(num_images: int) -> int:
    """Return how many threads map or adjust this many images."""
    if num_images <= _MAX_IMAGES_OF_ONE_THREAD:
        return 1
    return min(os.cpu_count() or 1, _MAX_THREADS)
