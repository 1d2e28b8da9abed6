"""Where the units of a run are computed."""
