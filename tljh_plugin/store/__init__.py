"""What Docker does not know: builds, images' titles and uses, projects.

SQLite through sqlite-utils, one writer. Losing the file loses history, never an image or a person's file.
"""
