"""Howard cuts a person out of a moving-camera video with the help of a clean plate."""

__version__ = "0.1.0"
