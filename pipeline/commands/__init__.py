"""The verbs of the command besides the main job, a module or a folder each; `verbs.py` lists them."""
