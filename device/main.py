# Run after boot.py, which is why it must be source.
import pack  # noqa: F401

from sealband import start

start.run()
