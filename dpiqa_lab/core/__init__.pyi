from .cache import cache_table as cache_table
from .cache import clear_cache as clear_cache
from .device import choose_compute as choose_compute
