"""Who gets in: what is judged of a request before Dagit, or the sandbox's control routes, see it."""
