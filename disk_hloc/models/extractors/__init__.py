"""Extractors of local features, a file each, named as ``model: name`` in a conf."""
