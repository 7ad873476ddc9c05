"""Quality and speed, measured. Each benchmark checks a result before it reports a time."""
