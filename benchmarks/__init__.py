"""Benchmarks: every figure beside its rivals, measured in the same run on the same machine.

``python -m benchmarks`` runs all sections; see docs/scale.md for how to read the table.
"""
