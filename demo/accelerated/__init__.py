"""The demo's audience and the pipeline in simulated time: one process, no broker."""
