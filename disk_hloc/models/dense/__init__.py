"""Matchers of two photos without keypoints, a file each, named as ``model: name`` in a conf."""
