"""The steps: what each does on a worker (items), and the Prefect tasks that drive them (steps)."""
