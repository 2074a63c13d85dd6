"""The `regionflow` command: its start, which imports nothing before it knows that it imports the right thing."""
