"""The run side: the frame loop and the command line, `python -m howard.engine run`."""
