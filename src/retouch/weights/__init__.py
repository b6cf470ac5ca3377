"""Weight files: the store of known ones, our own format, and the importer of other people's."""
