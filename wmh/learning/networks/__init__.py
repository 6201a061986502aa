"""Networks: one encoder, and a decoder with a head for each structure that a task predicts.

The structures are ``lesions`` and ``regions``.
"""
