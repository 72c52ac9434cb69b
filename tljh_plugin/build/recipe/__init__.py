"""Our build packs, which stand in front of repo2docker's own."""
