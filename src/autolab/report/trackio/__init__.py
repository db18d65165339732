"""A one-way mirror of the ledger in Trackio: learning curves, the fleet, alerts.

It belongs to no campaign: it is a process of its own that reads the ledger and writes files, so that nothing that
happens to it, to Trackio or to the Hub can reach what runs. Whatever is written can be written again and adds nothing.
"""

from autolab.report.trackio.mirror import Mirror, mirror_directory

__all__ = ["Mirror", "mirror_directory"]
