from .explore_config import ExploreConfig as ExploreConfig
from .explorer import Explorer as Explorer
