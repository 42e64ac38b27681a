# Run after boot.py, which is why it must be source.
from sealband import start

start.run()
