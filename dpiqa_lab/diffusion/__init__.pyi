from .attention_maps import AttentionMaps as AttentionMaps
from .attention_maps import map_taps as map_taps
from .distortion_prompts import distortion_prompt as distortion_prompt
from .generation import generate_images as generate_images
from .prompts import prompt_texts as prompt_texts
from .taps import block_taps as block_taps
