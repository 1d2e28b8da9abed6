"""The paper's tables and figures, made anew: its claims, our measurements, and which of the claims hold.

An exhibit is one module named after it with a function ``make``, one entry in ``registry``, and the claims
that it tests in ``claims``.
"""
