"""The steps from photos to a model: each module has one main(), from files to a file."""
