"""What is learned of examples: one module a task, named in `ktransfer.core.task`."""
