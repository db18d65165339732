"""The report page while its campaign runs: served on this machine only, kept up to date by what changed."""

from autolab.report.live.changes import delta
from autolab.report.live.server import Lab, serve

__all__ = ["Lab", "delta", "serve"]
