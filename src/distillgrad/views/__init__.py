"""The views: figures, tables, files and pages of what explanations, runs and the paper yield."""
