"""One module a workflow step, run as ``python -m brainloom.steps.<step>``: datasets in, datasets out."""
