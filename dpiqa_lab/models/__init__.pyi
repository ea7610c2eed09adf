from .encoders import Encoder as Encoder
from .encoders import encoder_features as encoder_features
from .re_iqa import load_re_iqa as load_re_iqa
