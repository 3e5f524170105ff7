"""The elements that pass between the stages, their encoding, and names. It imports no other folder."""
