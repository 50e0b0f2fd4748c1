from .html import report_page as report_page
from .html import write_report as write_report
from .terminal import describe as describe
