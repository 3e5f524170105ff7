"""What passes between the stages, how it is encoded, and the names of things. It imports no other folder."""
