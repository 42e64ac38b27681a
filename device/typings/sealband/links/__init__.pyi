"""Ways to the server, a file each."""
