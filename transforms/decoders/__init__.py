"""Decoder processes: small processes without Beam and TensorFlow that read and decode images for one worker.

A worker holds Python's lock for each image that it decodes itself, so its threads decode little more than one of them
does. Decoder processes have locks of their own, and their pixels come through shared memory.
"""
