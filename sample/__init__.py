"""A sample shot and clean plate, and the exact truth they were made from."""
