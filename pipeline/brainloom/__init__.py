"""brainloom: personalised whole-brain models for cohorts."""
