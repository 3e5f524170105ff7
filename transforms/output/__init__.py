"""Where files of an output lie, and how they become complete."""
