"""The torch face of each task: its model, batches, losses and the graphs it exports. One module a task."""
