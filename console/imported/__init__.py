"""``headrace import``: files of the past, in event time, into the topics and the training log."""
