from . import figures as figures
from .gallery import write_gallery as write_gallery
from .report import results_table as results_table
from .report import sheets as sheets
from .report import summary_table as summary_table
from .report import write_report as write_report
