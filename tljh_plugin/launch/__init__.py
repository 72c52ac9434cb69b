"""From an image to a running server.

Comes in: `LaunchOptions`. Goes out: a container that answers. Runs in the hub process, so it loads neither
the store nor the builder: it asks the service for the image and the project folder.
"""
