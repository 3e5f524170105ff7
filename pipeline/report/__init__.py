"""The run report: the counts of images, the times of the stages, and the limit of the run."""
