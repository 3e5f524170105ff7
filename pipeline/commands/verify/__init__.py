"""The command that reads an output again and proves it, with code that shares none of the writer's."""
