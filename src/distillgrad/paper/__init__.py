"""The paper's tables and figures, made anew: what it claims, what we measure, what holds.

Each exhibit is one module named after it, built from the public library alone.
"""
