"""Adapters: laglite's models as those of other libraries, a module for each library.

Each needs its library, which an extra of the same name installs; `import laglite` needs none.
"""
