from .dataset import QualityDataset as QualityDataset
from .distorted_copies import write_distorted_copies as write_distorted_copies
