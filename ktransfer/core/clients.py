"""Client libraries that read a TFLite file's metadata, and make its inputs themselves."""

# MediaPipe Tasks; the older Task Library reads the same fields.
CLIENTS = ("mediapipe",)
