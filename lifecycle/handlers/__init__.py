"""Handlers deliver effects for real: a task in, a receipt (or None) out; raising means: try again."""
