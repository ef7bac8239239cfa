"""The cohort report: figures, tables and one self-contained HTML file."""
