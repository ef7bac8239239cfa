"""The lowest floor: errors, configuration, provenance, code hashes and the run time; imports nothing heavy."""
