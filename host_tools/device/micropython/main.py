# main.py of a developer's board: the application with its errors shown. No release has it.
try:
    import pack  # noqa: F401
except ImportError:
    pass  # plain files

import devrun

devrun.run()
