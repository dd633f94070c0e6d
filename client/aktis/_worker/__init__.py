"""What runs inside a worker process: the template it is forked from, its start parameters, its main."""
