"""Tasks, one module each, registered in `ktransfer.core.task`."""
