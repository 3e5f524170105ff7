"""The verbs of the command beside the main job, a module or a folder each; `verbs.py` lists them."""
