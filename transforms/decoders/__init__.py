"""Decoder processes: small processes without Beam and TensorFlow that read and decode images for one worker.

The threads of a worker share its GIL, so together they decode little more than one thread does. Each decoder process
has its own GIL, and passes its pixels through shared memory.
"""
