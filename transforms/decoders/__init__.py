"""Decoder processes: small processes without Beam and TensorFlow that read and decode images for one worker.

The threads of a worker share Python's lock, so together they decode little more than one thread does. Decoder processes
have locks of their own, and their pixels come through shared memory.
"""
