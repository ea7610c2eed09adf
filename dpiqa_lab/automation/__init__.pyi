from .notebook_runner import run_notebook as run_notebook
from .resource_estimate import training_needs as training_needs
from .sweep import run_sweep as run_sweep
