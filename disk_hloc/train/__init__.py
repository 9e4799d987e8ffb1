"""Train DISK by policy gradient.

Tyszkiewicz, Fua, Trulls, "DISK: Learning local features with policy gradient", NeurIPS 2020,
sections 3 and 4, with the settings of its release. docs/training.md explains how the parts work
together.
"""
