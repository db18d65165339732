"""The report page: a campaign in one HTML file that needs nothing but a browser."""

from autolab.report.page.encoding import encoded
from autolab.report.page.page import Live, page, write_page

__all__ = ["Live", "encoded", "page", "write_page"]
