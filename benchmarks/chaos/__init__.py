"""Chaos: random workflows on the real kernel, random blows at the supervisor, and what must be true afterwards.

``plan`` says what is to happen, from a seed alone; ``child`` is what jobs are made of; ``play`` makes it happen;
``verdict`` looks at what came of it.
"""
