"""The engines that compute the units of a run."""
