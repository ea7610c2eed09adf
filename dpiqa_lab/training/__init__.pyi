from .peer_config import PmtIqaConfig as PmtIqaConfig
from .peer_config import QualityEncoderConfig as QualityEncoderConfig
from .pmt_iqa_run import train_pmt_iqa as train_pmt_iqa
from .quality_encoder_run import train_quality_encoder as train_quality_encoder
from .shipping import ship_student as ship_student
