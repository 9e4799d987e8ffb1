"""The named configurations: extractors.yaml and matchers.yaml, in hloc's conf form."""
