"""File projection: parts of the state as files that an application reads, replaced in place.

projections   what is asked for, and what of it makes no sense
overlays      the value that a reader in this region sees
rendering     a value as the content of files; pure
ownership     whose files these are
writing       files replaced whole and synced; blocks, runs in an executor
reloading     telling the application
receipts      what is on disk, and who knows of it
following     one projection: coalesces changes, writes, tries again, tells
projector     all projections of an agent
"""
